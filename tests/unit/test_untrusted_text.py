"""What a storage or a cluster says reaches no terminal as commands, and no number of it ends a verb."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tree import ROOT
from trainer_app import checkpoint as ckpt
from trainer_app.cli import results as results_verb
from trainer_app.cli.connect import notify, print_line
from trainer_app.cli.live import live_trials
from trainer_app.cli.tables import rich_table, show_facts, show_table
from trainer_app.errors import CheckpointRejectedError
from trainer_app.formatting import clean_lines, local_time, one_line
from trainer_app.records import RunFolder, RunRecord
from trainer_app.records.manifest import Manifest, _digest
from trainer_app.records.models import EpochLine
from trainer_app.results.view import RunView
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit
EVIL = "a\x1b[31mb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x9b2Je\x1b(0f\rg\x07h\u202ei\x1b"
CLEAN = "abcdef g h i"


@pytest.mark.parametrize(
    "text, shown",
    [
        (EVIL, CLEAN),
        ("\x1b[38;2;1;2;3mred\x1b[0m", "red"),
        ("\x1b]52;c;cm0gLXJmIH4=\x07done", "done"),
        ("\x1bP1$r0m\x1b\\x\x1bcy\x1b", "xy"),
        ("\x1b]0;without an end", "0;without an end"),
        ("half \ud800 a character", "half ? a character"),
        ("träge 日本 λ\tx", "träge 日本 λ x"),
    ],
)
def test_terminal_escapes_are_taken_out(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert not any(ord(letter) < 32 and letter != "\t" for letter in clean_lines(text))
    clean_lines(text).encode()


def is_clean(text: str) -> bool:
    return not any(ord(letter) < 32 and letter != "\n" for letter in text) and not set(text) & {*"\x7f\x9b\u202e\ud800"}


def test_headers_cells_labels_and_lines_of_logs(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([EVIL, "b"], [[EVIL, "1"]], right=(EVIL,))
    show_facts([("run", EVIL)])
    notify(EVIL)
    print_line(EVIL)
    out, err = capsys.readouterr()
    assert is_clean(out) and is_clean(err)
    assert out.splitlines()[0].split("  ")[0] == CLEAN


def test_tables_on_a_terminal() -> None:
    from rich.console import Console

    view = RunView(task="tune", run="r", uri="", metric=EVIL, mode="max")
    view.apply({"event": "trial", "trial": "t00000", "state": "running", "params": {EVIL: EVIL}})
    console = Console(width=200, force_terminal=False, no_color=True)
    for table in (
        rich_table([EVIL], [[EVIL]], [EVIL]),
        rich_table([EVIL], [[EVIL]], stacked=True),
        live_trials(view, 200, 50),
    ):
        with console.capture() as captured:
            console.print(table)
        assert is_clean(captured.get()), captured.get()


def test_results_of_a_run_with_such_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunRecord(name="r", task="train", metric=EVIL, mode="max", error=EVIL, state="failed")
    folder = RunFolder.create(open_store(str(tmp_path)), record, "model: {class_path: a.B}\n")
    line = EpochLine(epoch=0, metrics={EVIL: 1.0, "more" * 40 + EVIL: 2.0})
    folder.run_store.put("metrics/a0001-0000.jsonl", line.to_json() + b"\n")
    results_verb.show_results(str(tmp_path), "r", results_verb.Format())
    out, err = capsys.readouterr()
    assert is_clean(out) and is_clean(err) and CLEAN in out


@pytest.mark.parametrize("unix", [float("inf"), float("nan"), 1e300, -1e300])
def test_a_time_that_is_none(unix: float) -> None:
    assert local_time(unix) == "-"


def test_log_lines_and_tables_have_one_place() -> None:
    """Nothing in cli/ prints a line of a log but `print_line`; `formatting` alone has the patterns."""
    texts = {path: path.read_text() for path in (ROOT / "trainer_app").rglob("*.py")}
    assert [path.name for path, text in texts.items() if "\\x1b" in text and "_SHOW_CURSOR" not in text] == [
        "formatting.py"
    ]


@pytest.fixture
def commits(tmp_path: Path) -> Any:
    """A store of two commits."""
    store, payload = open_store(str(tmp_path / "checkpoints")), tmp_path / "payload"
    payload.write_bytes(b"weights")
    for epoch in (1, 2):
        ckpt.write_commit(store, payload, Manifest(epochs=epoch, step=epoch, attempt=1, world_size=1, time=1.0))
    return store


BAD: list[dict[str, Any]] = [
    *({"objects": {key: {"size": 1, "sha256": "a"}}} for key in ("../../x", "/etc/x", "", "a//b", ".", "a\x00")),
    *({"objects": {"checkpoint.ckpt": {"size": size, "sha256": "a"}}}
      for size in (float("inf"), float("nan"), -1, 1e400, True, "inf", 1 << 64, 1.5, None, [1])),
    {"objects": {"checkpoint.ckpt": None}},
    {"objects": []},
    *({key: value} for key in ("epochs", "step", "attempt", "world_size", "time")
      for value in (float("inf"), float("nan"), -1, True, None)),
    {"schedules": [{"name": "a", "done": float("inf"), "total": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=repr)
def test_a_manifest_that_is_none_falls_back_to_the_commit_before(
    commits: Any, fields: dict[str, Any], tmp_path: Path
) -> None:
    older, newest = commits.list_folders()
    key = f"{newest}/manifest.json"
    changed = {**json.loads(commits.get(key)), **fields}
    commits.put(key, json.dumps({**changed, "digest": _digest(changed)}).encode())
    rejected: list[str] = []
    found = ckpt.download_newest(commits, tmp_path / "out", reject=lambda name, why: rejected.append(f"{name}: {why}"))
    assert found and found[0].name == older
    assert len(rejected) == 1 and rejected[0].startswith(newest) and "damaged" in rejected[0]
    with pytest.raises(CheckpointRejectedError):
        ckpt.read_commit(commits, newest)
