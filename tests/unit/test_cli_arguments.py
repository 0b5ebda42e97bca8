from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainer_app import config, storage
from trainer_app.cli.arguments import NAME_MAX, Asked, check_name, default_name, prepare, split
from trainer_app.errors import ConfigError, InputError, NotFound
from trainer_app.records import RunFolder, RunRecord

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
    assert split(items) == (
        ["a.yaml", "./a=b.yaml", "dir/a=b.yaml"],
        ["trainer.max_epochs=1", "storage.uri=s3://b/p", "x=./y"],
    )


NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "base, name",
    [
        ("mnist", "mnist-260203040506"),
        ("My Model_2/x", "my-model-2-x-260203040506"),
        ("3d", "run-3d-260203040506"),
        ("---", "run-260203040506"),
        ("a" * 80, "a" * 31 + "-260203040506"),
        ("a" * 30 + "-bcd", "a" * 30 + "-260203040506"),
    ],
)
def test_default_names_hold_what_a_run_name_may(base: str, name: str) -> None:
    assert default_name(base, NOW) == name
    assert check_name(name, "x") == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "1a", "a-", "-a", "a.b", "a/b", "a\n", "ä", "a" * (NAME_MAX + 1)])
def test_other_names_are_refused_by_where_they_came_from(name: str) -> None:
    with pytest.raises(InputError, match=r"^--name: "):
        check_name(name, "--name")


def test_a_run_gets_a_fresh_name_or_the_one_given(run_file: str) -> None:
    fresh = prepare(Asked("tune", [run_file]), env={})
    assert fresh.name.startswith("mnist-")
    assert len(fresh.name) == len("mnist-") + 12
    assert not fresh.resume
    assert prepare(Asked("tune", [run_file]), env={"TRAINER_RUN": "env-1"}).name == "env-1"
    assert prepare(Asked("tune", [run_file], name="flag-1"), env={"TRAINER_RUN": "env-1"}).name == "flag-1"
    assert prepare(Asked("train", [run_file, "name=null"]), env={}).name.startswith("train-")


def test_storage_of_the_command_line_then_environment_then_file(run_file: str) -> None:
    env = {"TRAINER_STORAGE_URI": "s3://bucket/a #b: c"}
    assert prepare(Asked("tune", [run_file]), env={}).config.storage.uri == "from-file"
    assert prepare(Asked("tune", [run_file]), env=env).config.storage.uri == "s3://bucket/a #b: c"
    assert prepare(Asked("tune", [run_file, "storage.uri=key"]), env=env).config.storage.uri == "key"
    assert prepare(Asked("tune", [run_file], storage="flag"), env=env).config.storage.uri == "flag"


def test_overrides_reach_the_configuration(run_file: str) -> None:
    prepared = prepare(Asked("train", [run_file, "trainer.max_epochs=1"]), env={})
    assert prepared.config.trainer["max_epochs"] == 1


def test_nothing_is_made_where_input_is_bad(run_file: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for asked in (
        Asked("tune", []),
        Asked("tune", [run_file, "trainer.max_epoch=1"]),
        Asked("tune", [run_file, "tune=null"]),
        Asked("tune", [run_file], name="No"),
        Asked("tune", [run_file], name="a", resume="b"),
        Asked("tune", ["missing.yaml"]),
        Asked("tune", [], resume="never-ran"),
    ):
        with pytest.raises((InputError, NotFound)) as caught:
            prepare(asked, env={})
        assert caught.value.exit_code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_tune_without_a_tune_block_names_the_key(run_file: str) -> None:
    with pytest.raises(ConfigError, match=r"^tune: "):
        prepare(Asked("tune", [run_file, "tune=null"]), env={})
    prepare(Asked("train", [run_file, "tune=null"]), env={})


def test_resume_without_files_takes_the_stored_run_file_and_the_storage_it_was_found_in(run_file: str) -> None:
    stored = config.load([run_file], ["trainer.max_epochs=7", "storage.uri=elsewhere"])
    record = RunRecord(name="mnist-1", task="tune", state="interrupted", created=0.0, updated=0.0)
    RunFolder.create(storage.open_store("moved"), record, config.dump(stored))
    for env, asked in (
        ({}, Asked("tune", [], resume="mnist-1", storage="moved")),
        ({}, Asked("tune", ["storage.uri=moved"], resume="mnist-1")),
        ({"TRAINER_STORAGE_URI": "moved", "TRAINER_RUN": "other"}, Asked("tune", [], resume="mnist-1")),
    ):
        prepared = prepare(asked, env=env)
        assert (prepared.name, prepared.resume) == ("mnist-1", True)
        assert prepared.config.storage.uri == "moved"
        assert prepared.config.trainer["max_epochs"] == 7
    RunFolder.create(storage.open_store("runs"), record, config.dump(stored))
    assert prepare(Asked("tune", [], resume="mnist-1"), env={}).config.storage.uri == "runs"
    with pytest.raises(NotFound, match="mnist-1"):
        prepare(Asked("tune", [], resume="mnist-2", storage="moved"), env={})
