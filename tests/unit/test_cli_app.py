from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from trainer_app.__main__ import main
from trainer_app.cli.app import VERBS
from trainer_app.cli.app import trainer as trainer_command

pytestmark = pytest.mark.unit
HEAVY = ("torch", "ray", "lightning", "rich", "boto3", "botocore", "kubernetes", "pydantic", "numpy", "jsonargparse")


def trainer(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer_app", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60, check=False)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["-h"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    """The time itself is measured in bench/; what makes it is here."""
    command = [sys.executable, "-X", "importtime", "-m", "trainer_app", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not {name for name in imported if name.partition(".")[0] in HEAVY}
    verbs = {f"trainer_app.cli.{name}" for name in VERBS}
    assert not imported & verbs


def test_help_lists_every_verb_and_the_exit_codes() -> None:
    done = trainer("--help", COLUMNS="80")
    assert done.returncode == 0
    for name, line in VERBS.items():
        assert name in done.stdout
        assert line in done.stdout
    words = " ".join(done.stdout.split())
    for code in ("0 done", "1 the run failed", "2 bad input", "130 interrupted"):
        assert code in words


@pytest.mark.parametrize(
    ("verb", "usage"),
    [
        ("validate", "[OPTIONS] FILE... [KEY=VALUE...]"),
        ("train", "[OPTIONS] FILE... [KEY=VALUE...]"),
        ("submit", "[OPTIONS] train|tune|test|predict FILE... [KEY=VALUE...]"),
        ("results", "[OPTIONS] [RUN]"),
    ],
)
def test_arguments_are_shown_as_a_user_writes_them(verb: str, usage: str) -> None:
    done = trainer(verb, "--help", COLUMNS="80")
    assert done.stdout.splitlines()[0] == f"Usage: trainer {verb} {usage}"
    assert "list[" not in done.stdout and "<str>" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("export --format foo", "--format: 'foo' is not one of 'pt2', 'onnx', 'safetensors', 'state-dict'"),
        ("submit foo run.yaml", "'foo' is not one of 'train', 'tune', 'test', 'predict'"),
        ("ui --port 99999", "--port: must be at most 65535 (found '99999')"),
        ("predict --workers 0", "--workers: must be at least 1 (found '0')"),
        ("stop run --grace soon", "--grace: must be a number (found 'soon')"),
        ("test --epoch 1.5", "--epoch: must be an integer (found '1.5')"),
    ],
)
def test_a_wrong_value_is_said_in_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_without_a_verb_the_help_is_shown() -> None:
    done = trainer()
    assert "tune" in done.stdout + done.stderr
    assert done.returncode == 2


def test_every_verb_is_there() -> None:
    """A verb is in the file of its name; --help of each works, and says which run those take that only read.

    `fetch` takes none by itself, since a pattern comes after RUN; nor do verbs that change a run.
    """
    newest = {"results", "report", "tensorboard", "test", "predict", "export", "status", "logs", "wait"}
    for name in VERBS:
        assert find_spec(f"trainer_app.cli.{name}"), name
        done = trainer(name, "--help", COLUMNS="80")
        assert done.returncode == 0, done.stderr
        assert f"trainer {name}" in done.stdout
        assert ("[default: the newest" in " ".join(done.stdout.partition("Options:")[0].split())) == (name in newest)


def test_a_letter_means_the_same_in_every_verb() -> None:
    meanings: dict[str, set[str]] = {}
    for name in VERBS:
        for option in trainer_command().get_command(None, name).params:
            for letter in (text for text in option.opts if len(text) == 2 and text[0] == "-"):
                meanings.setdefault(letter, set()).update(set(option.opts) - {letter})
    assert meanings == {"-n": {"--namespace"}, "-f": {"--values"}, "-w": {"--watch"}, "-o": {"--output"}}


def test_logs_has_no_f_for_a_run_name_to_follow() -> None:
    """`kubectl logs -f RUN` follows; as --values it would take RUN as a file and show another run's log."""
    done = trainer("logs", "-f", "mnist-1")
    assert done.returncode == 2 and "No such option: -f" in done.stderr
    assert "--follow" in trainer("logs", "--help").stdout


@pytest.mark.parametrize("args", [["trian"], ["train", "--nmae", "x"], ["train"]])
def test_bad_usage_is_exit_2_and_one_error(args: list[str]) -> None:
    done = trainer(*args)
    assert done.returncode == 2
    assert "rror: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_closed_reader_ends_a_verb_quietly() -> None:
    """`trainer schema | head -0`"""
    command = [sys.executable, "-m", "trainer_app", "schema"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr
    child.stdout.close()
    error = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 141
    assert error == b""


def test_an_input_error_is_its_lines_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINER_RUN", "Not A Name")
    assert main(["train", "missing.yaml"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: TRAINER_RUN: name 'Not A Name' can't be a run's name")
    assert not out


@pytest.mark.parametrize("ray_was_there", [True, False])
def test_a_crash_in_the_teardown_does_not_change_the_exit_code_of_a_run(ray_was_there: bool) -> None:
    code = f"""
import atexit, os, sys
from types import ModuleType
class Crash:
    def __del__(self, abort=os.abort):
        abort()
kept = Crash()
if {ray_was_there}:
    sys.modules["ray"] = ModuleType("ray")
atexit.register(os.write, 1, b"registered")
from trainer_app.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, timeout=60, check=False)
    assert done.stdout.endswith(b"registered")
    assert done.returncode == (0 if ray_was_there else -6)
