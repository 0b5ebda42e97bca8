from __future__ import annotations

from pathlib import Path

import pytest

from trainer_app import config, storage
from trainer_app.errors import ConfigError, InputError, NotFoundError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run.request import RunRequest, prepare_run, split_items

pytestmark = pytest.mark.unit

RUN_FILE = """\
name: mnist
model: {class_path: somewhere.Model, init_args: {lr: 1.0e-3}}
trainer: {max_epochs: 5}
storage: {uri: from-file}
tune: {metric: val_accuracy, mode: max, space: {model.init_args.lr: {uniform: [0, 1]}}}
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN_FILE)
    return "run.yaml"


def test_an_override_has_its_equals_sign_before_any_slash() -> None:
    items = ["a.yaml", "trainer.max_epochs=1", "./a=b.yaml", "dir/a=b.yaml", "storage.uri=s3://b/p", "x=./y"]
    assert split_items(items) == (
        ["a.yaml", "./a=b.yaml", "dir/a=b.yaml"],
        ["trainer.max_epochs=1", "storage.uri=s3://b/p", "x=./y"],
    )


@pytest.mark.parametrize("name", ["", "A", "a_b", "1a", "a-", "a/b", "a" * 45])
def test_names_that_kubernetes_refuses_are_refused_here(run_file: str, name: str) -> None:
    with pytest.raises(
        InputError, match=r"^TRAINER_RUN: name .* can't be a run's name: it (must be lower-case|has 45)"
    ):
        prepare_run(RunRequest("tune", [run_file]), env={"TRAINER_RUN": name or "-"})


def test_a_run_gets_a_fresh_name_or_the_one_given(run_file: str) -> None:
    fresh = prepare_run(RunRequest("tune", [run_file]), env={})
    assert fresh.name.startswith("mnist-")
    assert len(fresh.name) == len("mnist-") + 12
    assert not fresh.resume
    assert prepare_run(RunRequest("tune", [run_file]), env={"TRAINER_RUN": "env-1"}).name == "env-1"
    assert prepare_run(RunRequest("tune", [run_file], name="flag-1"), env={"TRAINER_RUN": "env-1"}).name == "flag-1"
    fired = {"TRAINER_RUN_FROM_CLUSTER": "1", "RAY_CLUSTER_NAME": "nightly-x7k2p-abcde"}
    assert prepare_run(RunRequest("tune", [run_file]), env=fired).name == "nightly-x7k2p"
    assert prepare_run(RunRequest("train", [run_file, "name=null"]), env={}).name.startswith("train-")


def test_storage_of_the_command_line_then_environment_then_file(run_file: str) -> None:
    env = {"TRAINER_STORAGE_URI": "s3://bucket/a #b: c"}
    assert prepare_run(RunRequest("tune", [run_file]), env={}).config.storage.uri == "from-file"
    assert prepare_run(RunRequest("tune", [run_file]), env=env).config.storage.uri == "s3://bucket/a #b: c"
    assert prepare_run(RunRequest("tune", [run_file, "storage.uri=key"]), env=env).config.storage.uri == "key"
    assert prepare_run(RunRequest("tune", [run_file], storage="flag"), env=env).config.storage.uri == "flag"


def test_overrides_reach_the_configuration(run_file: str) -> None:
    prepared = prepare_run(RunRequest("train", [run_file, "trainer.max_epochs=1"]), env={})
    assert prepared.config.trainer["max_epochs"] == 1


def test_nothing_is_made_where_input_is_bad(run_file: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for asked in (
        RunRequest("tune", []),
        RunRequest("tune", [run_file, "trainer.max_epoch=1"]),
        RunRequest("tune", [run_file, "tune=null"]),
        RunRequest("tune", [run_file], name="No"),
        RunRequest("tune", [run_file], name="a", resume="b"),
        RunRequest("tune", ["missing.yaml"]),
        RunRequest("tune", [], resume="never-ran"),
    ):
        with pytest.raises((InputError, NotFoundError)) as caught:
            prepare_run(asked, env={})
        assert caught.value.exit_code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_tune_without_a_tune_block_names_the_key(run_file: str) -> None:
    with pytest.raises(ConfigError, match=r"^tune: "):
        prepare_run(RunRequest("tune", [run_file, "tune=null"]), env={})
    prepare_run(RunRequest("train", [run_file, "tune=null"]), env={})


def test_resume_without_files_takes_the_stored_run_file_and_the_storage_it_was_found_in(run_file: str) -> None:
    stored = config.load([run_file], ["trainer.max_epochs=7", "storage.uri=elsewhere"])
    record = RunRecord(name="mnist-1", task="tune", state="interrupted", created=0.0, updated=0.0)
    RunFolder.create(storage.open_store("moved"), record, config.dump(stored))
    for env, asked in (
        ({}, RunRequest("tune", [], resume="mnist-1", storage="moved")),
        ({}, RunRequest("tune", ["storage.uri=moved"], resume="mnist-1")),
        ({"TRAINER_STORAGE_URI": "moved", "TRAINER_RUN": "other"}, RunRequest("tune", [], resume="mnist-1")),
    ):
        prepared = prepare_run(asked, env=env)
        assert (prepared.name, prepared.resume) == ("mnist-1", True)
        assert prepared.config.storage.uri == "moved"
        assert prepared.config.trainer["max_epochs"] == 7
    RunFolder.create(storage.open_store("runs"), record, config.dump(stored))
    assert prepare_run(RunRequest("tune", [], resume="mnist-1"), env={}).config.storage.uri == "runs"
    with pytest.raises(NotFoundError, match="mnist-1"):
        prepare_run(RunRequest("tune", [], resume="mnist-2", storage="moved"), env={})


@pytest.mark.parametrize("how", ["elsewhere/mnist-1", "./elsewhere/mnist-1/", "absolute", "file"])
def test_a_run_is_resumed_by_its_path_or_uri(run_file: str, tmp_path: Path, how: str) -> None:
    stored = config.load([run_file], ["trainer.max_epochs=7"])
    record = RunRecord(name="mnist-1", task="tune", state="interrupted", created=0.0, updated=0.0)
    RunFolder.create(storage.open_store("elsewhere"), record, config.dump(stored))
    where = {"absolute": f"{tmp_path}/elsewhere/mnist-1", "file": f"file://{tmp_path}/elsewhere/mnist-1"}.get(how, how)
    for items in ([], [run_file, "trainer.max_epochs=7"]):
        prepared = prepare_run(RunRequest("tune", items, resume=where), env={"TRAINER_STORAGE_URI": "another"})
        assert (prepared.name, prepared.resume) == ("mnist-1", True)
        assert storage.open_store(prepared.config.storage.uri).uri == f"{tmp_path}/elsewhere"
        assert prepared.config.trainer["max_epochs"] == 7
    for items, given in (([], "x"), (["storage.uri=x"], None)):
        with pytest.raises(InputError, match="says where the run is: leave out the storage"):
            prepare_run(RunRequest("tune", items, resume=where, storage=given), env={})
    with pytest.raises(NotFoundError, match="no run 'mnist-2'"):
        prepare_run(RunRequest("tune", [], resume="elsewhere/mnist-2"), env={})
    with pytest.raises(InputError, match=r"--resume mnist-1 and --name other differ"):
        prepare_run(RunRequest("tune", [], resume=where, name="other"), env={})
