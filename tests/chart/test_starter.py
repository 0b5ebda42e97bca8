"""The values that `trainer init` writes are valid as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trainer_app.__main__ import main

pytestmark = pytest.mark.chart


def test_values_of_the_starter_can_be_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "demo"]) == 0
    capsys.readouterr()
    assert main(["render", "train", "demo/run.yaml", "-f", "demo/values.yaml", "-n", "team", "--name", "first"]) == 0
    kinds = [made["kind"] for made in yaml.safe_load_all(capsys.readouterr().out) if made]
    assert "RayJob" in kinds and "ConfigMap" in kinds
