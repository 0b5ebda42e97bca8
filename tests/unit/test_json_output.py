"""Every JSON document that is printed or stored is RFC 8259's, which knows no NaN: one writer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run_samples import commit, epoch, train_run
from tests.unit.tree import ROOT
from trainer_app.__main__ import main
from trainer_app.run import documents
from trainer_app.storage import Store, open_store
from trainer_app.training import evaluate

pytestmark = pytest.mark.unit
# Their JSON holds no number that was computed: a schema, quoted strings, Ray's and Helm's requests, a digest's input,
# overrides, what refuses NaN.
OTHER_WRITERS = {
    "run/request.py", "cli/schema.py", "launch/helm.py", "launch/resubmit.py",
    "pod/probe.py", "pod/rayjob.py", "pod/submitter.py", "records/manifest.py", "tuning/trial.py",
    "examples/data/cache.py", "examples/text_classifier/hugging_face.py", "report/sources.py", "api/arguments.py",
    "ui/server.py",
}  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of a run whose last epoch gave NaN."""
    monkeypatch.chdir(tmp_path)
    storage = open_store("runs")
    fit_folder = train_run(storage, state="succeeded").fit_folder()
    epoch(fit_folder, 3, {"val/acc": math.nan, "val/loss": math.inf})
    commit(fit_folder, 4, {"val/acc": math.nan})
    return storage


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        assert main(arguments) == 0
        return json.loads(capfd.readouterr().out, parse_constant=pytest.fail)

    return run


def test_results_and_list(storage: Store, printed: Callable[..., Any]) -> None:
    assert printed("results", "fashion-1", "--json")["history"][3]["metrics"] == {"val/acc": "nan", "val/loss": "inf"}
    assert printed("list", "--json")["runs"][0]["name"] == "fashion-1"


def test_the_score_of_a_test(
    storage: Store,
    printed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    metrics = {"acc": 0.5, "loss": math.nan, "low": -math.inf}
    event = {"event": "test", "checkpoint": "c", "trial": None, "metrics": metrics}
    monkeypatch.setattr(evaluate, "test", lambda store, name, **which: event)
    found = printed("test", "fashion-1", "--json", "--log", "-")
    assert found == {**event, "metrics": {"acc": 0.5, "loss": "nan", "low": "-inf"}}
    assert main(["test", "fashion-1", "--log", "-"]) == 0
    assert capfd.readouterr().out == "fashion-1: acc=0.5 loss=nan low=-inf\ncheckpoint: c\n"


def test_a_document_beside_the_records(storage: Store) -> None:
    documents.write(storage, "fashion-1/control/x.json", {"value": math.nan})
    assert json.loads(storage.get("fashion-1/control/x.json"), parse_constant=pytest.fail) == {"value": "nan"}


def test_nobody_else_writes_numbers_as_json() -> None:
    app = ROOT / "trainer_app"
    writers = {
        p.relative_to(app).as_posix() for p in app.rglob("*.py") if re.search(r"json\w*\.dumps?\(", p.read_text())
    }
    assert writers - OTHER_WRITERS == {"records/plain_json.py"}
