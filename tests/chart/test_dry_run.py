"""`trainer submit --dry-run` shows what submit would create: with the kubeconfig's namespace, and who submits."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer_app.cli import submit
from trainer_app.errors import InputError
from trainer_app.launch.kube import Kube

pytestmark = pytest.mark.chart


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    file = tmp_path / "run.yaml"
    file.write_text("model: {class_path: some.Model}\ndata: {class_path: some.Data}\n")
    return str(file)


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contexts of a server that nobody is at; the file is read anew by each test."""
    contexts = [
        {"name": name, "context": {"cluster": "c", "user": "u", "namespace": f"ns-{name}"}} for name in ("one", "two")
    ]
    clusters = [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}]
    text = {"current-context": "one", "contexts": contexts, "clusters": clusters, "users": [{"name": "u", "user": {}}]}
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(text))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))


def shown(capsys: pytest.CaptureFixture[str], run_file: str, **options: Any) -> tuple[Any, str]:
    """(the RayJob's metadata, stderr)."""
    assert submit.submit("train", [run_file], ["kind"], name="demo", dry_run=True, **options) == 0
    captured = capsys.readouterr()
    jobs = [one for one in yaml.safe_load_all(captured.out) if one and one["kind"] == "RayJob"]
    return jobs[0]["metadata"], captured.err


@pytest.mark.parametrize(
    "options, namespace",
    [({}, "ns-one"), ({"context": "two"}, "ns-two"), ({"context": "two", "namespace": "mine"}, "mine")],
)
@pytest.mark.usefixtures("kubeconfig")
def test_it_is_what_submit_creates(
    options: Any, namespace: str, run_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kube, "user", lambda _: "alice")
    meta, _ = shown(capsys, run_file, **options)
    assert meta["namespace"] == namespace and meta["annotations"]["trainer/user"] == "alice"


@pytest.mark.usefixtures("kubeconfig")
def test_a_cluster_that_is_away_names_no_user(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    meta, err = shown(capsys, run_file)
    assert meta["namespace"] == "ns-one" and "trainer/user" not in meta["annotations"]
    assert "without the annotation trainer/user" in err and len(err.splitlines()) == 1


@pytest.mark.usefixtures("kubeconfig")
def test_a_context_that_there_is_not_is_bad_input(run_file: str) -> None:
    with pytest.raises(InputError, match="three"):
        submit.submit("train", [run_file], ["kind"], name="demo", dry_run=True, context="three")


def test_without_a_kubeconfig_it_is_shown_all_the_same(
    run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    meta, err = shown(capsys, run_file)
    assert meta["namespace"] == "default" and "no cluster is configured" in err


@pytest.mark.usefixtures("kubeconfig")
def test_the_files_of_the_code_are_listed(
    tmp_path: Path, run_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kube, "user", lambda _: "alice")
    (tmp_path / "code/sub").mkdir(parents=True)
    for name in ("net.py", "sub/data.py"):
        (tmp_path / "code" / name).write_text("")
    _, err = shown(capsys, run_file, code=str(tmp_path / "code"))
    assert [line.partition("code: ")[2] for line in err.splitlines()] == ["net.py", "sub/data.py"]
