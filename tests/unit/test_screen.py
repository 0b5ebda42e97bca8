from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console

from tests.unit import fake_driver
from trainer_app import formatting
from trainer_app.cli import live
from trainer_app.cli.screen import JsonScreen, PlainScreen, open_screen
from trainer_app.results.tables import closing_facts
from trainer_app.results.view import RunView

pytestmark = pytest.mark.unit
Events = Iterable[dict[str, Any]]


def view_of(events: Events, task: str = "tune") -> RunView:
    view = RunView(task=task, run="mnist-1", mode="max")
    for event in events:
        view.apply(event)
    return view


def plain_lines(events: Events) -> list[str]:
    out = io.StringIO()
    screen = PlainScreen(RunView(task="tune", run="mnist-1", mode="max"), out, io.StringIO())
    for event in events:
        screen.emit(event)
    screen.close()
    return out.getvalue().splitlines()


def drawn(*renderables: Any, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=24, color_system=None).print(*renderables, sep="\n")
    return out.getvalue().splitlines()


def rows(lines: list[str]) -> int:
    return sum(line.startswith("t0") for line in lines)


def test_plain_has_one_line_per_change_and_the_last_words() -> None:
    events = fake_driver.sweep()
    lines = plain_lines(events)
    begun = lines.index("t00000 running, lr=0.001 batch_size=32")
    assert lines[:begun] == [
        "run mnist-1: tune, 3 trials, max val_accuracy, in runs",
        "log /l/mnist-1.log",
        "note: a note",
    ]
    words = lines.index(next(line for line in lines if line.startswith("end ")))
    assert words - begun == len(events) - 2  # all but run and end
    assert "t00002 epoch 5/5 step 225 val_accuracy=0.975 train_loss=nan 5.0s" in lines
    end = "best val_accuracy=0.5, 1.0s, lr=0.001 batch_size=32"
    assert f"t00000 stopped at epoch 1: {fake_driver.REASON}, {end}" in lines
    assert f"test test_accuracy=0.9667, checkpoint: {fake_driver.CHECKPOINT}" in lines
    assert [re.split(r" {2,}", line, maxsplit=1)[0].split()[0] for line in lines[words:]] == [
        "end",
        "best",
        "test",
        "checkpoint",
        "log",
        "results",
    ]
    assert lines[-1] == "results    trainer results runs/mnist-1"
    assert "\x1b" not in "".join(lines)


def test_an_error_in_several_lines_with_control_characters_is_one_plain_line() -> None:
    event = {"event": "trial", "trial": "t00000", "state": "failed", "reason": "ValueError: a\n\x1b[2Jb\rc"}
    assert plain_lines([event]) == ["t00000 failed: ValueError: a b c"]


def test_json_is_one_object_a_line_and_writes_non_finite_numbers_as_records_do() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = JsonScreen(RunView(task="tune", run="r"), out, err)
    events = fake_driver.sweep()
    for event in events:
        screen.emit(event)
    screen.close()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    read = [json.loads(line, parse_constant=refuse) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in read] == [e["event"] for e in events]
    assert read[2]["metrics"]["train_loss"] == "nan"
    assert read[-1] == events[-1]


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_goes_away_ends_the_screen_but_not_the_run() -> None:
    screen = PlainScreen(RunView(task="tune", run="r"), Gone(), io.StringIO())
    for event in fake_driver.sweep():
        screen.emit(event)
    screen.close()
    assert screen.view.end is not None


def test_pipes_get_lines_and_dumb_terminals_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    view = RunView(task="tune", run="r")
    assert type(open_screen(view, io.StringIO(), io.StringIO(), as_json=False)) is PlainScreen
    monkeypatch.setenv("TERM", "dumb")
    assert type(open_screen(view, Terminal(), io.StringIO(), as_json=False)) is PlainScreen
    monkeypatch.setenv("TERM", "xterm")
    assert type(open_screen(view, Terminal(), io.StringIO(), as_json=True)) is JsonScreen


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40, 30])
def test_the_closing_table_says_for_each_trial_when_and_why_it_ended(width: int) -> None:
    view = view_of(fake_driver.sweep())
    lines = drawn(*live.closing_tables(view, width), width=width)
    assert max(map(len, lines)) <= width
    squeezed = re.sub(r"\s+", "", "".join(lines))
    assert squeezed.count("batch_size") == (1 if width == 200 else 3)  # a column of its own if there is room
    for i, epoch in enumerate(["1/5", "1/5", "5/5"]):
        assert f"t{i:05d}" in squeezed
        assert epoch in squeezed
    # Columns interleave wrapped texts: look for the words.
    assert squeezed.count("stopped") == 2
    assert squeezed.count("below") == 2
    assert squeezed.count("max_t") == 1
    assert squeezed.count("32") >= 3


def test_the_last_words_name_the_best_its_test_score_and_where_things_lie() -> None:
    words = dict(closing_facts(view_of(fake_driver.sweep())))
    assert words["end"] == "mnist-1 succeeded in 34.2s: 1 finished, 2 stopped"
    assert words["best"] == "t00002 val_accuracy=0.975 at epoch 5: lr=0.003 batch_size=32"
    assert words["test"] == "test_accuracy=0.9667"
    assert words["checkpoint"] == fake_driver.CHECKPOINT
    assert words["log"] == "/l/mnist-1.log"
    assert words["results"] == "trainer results runs/mnist-1"


def test_the_live_table_fits_the_terminal_with_1000_trials() -> None:
    view = view_of(fake_driver.sweep(1000)[:-2])
    for i in (998, 999):
        view.apply({"event": "trial", "trial": f"t00{i}", "state": "running"})
        view.apply({"event": "epoch", "trial": f"t00{i}", "epoch": 1, "metrics": {"val_accuracy": 0.1}, "elapsed": 2.0})
    for width in (120, 80, 40):
        lines = drawn(live.live_trials(view, width, 24), width=width)
        assert len(lines) <= 24 - 4
        assert max(map(len, lines)) <= width
        assert any(line.startswith("t00998  running") for line in lines)
        assert any(line.startswith("t00997  stopped") for line in lines)  # the best of those that ended
        assert not any(line.startswith("t00000") for line in lines)  # the worst
    assert view.counts_text() == "2 running, 998 stopped"


def test_many_running_trials_leave_room_for_the_best() -> None:
    events = [{"event": "trial", "trial": f"t{i:05d}", "state": "running", "params": {}} for i in range(50)]
    view = view_of([fake_driver.begin(100), *fake_driver.trial(99, 5, 0.9, ""), *events])
    lines = drawn(live.live_trials(view, 80, 24), width=80)
    assert len(lines) <= 20
    assert lines[-2].startswith("t00099  finished") and lines[-1] == f"… {51 - rows(lines)} more"


def test_best_follows_the_mode_and_puts_nan_last() -> None:
    view = RunView(task="tune", run="r", metric="loss", mode="min")
    for i, value in enumerate([0.5, float("nan"), 0.1, None]):
        view.apply({"event": "trial", "trial": f"t{i}", "state": "finished", "metric": value})
    assert [row.trial for row in view.best(4, ended=True)] == ["t2", "t0", "t1", "t3"]


def test_a_retried_trial_goes_back_to_the_epoch_it_went_on_from() -> None:
    view = view_of([{"event": "epoch", "trial": "t0", "epoch": e, "metrics": {}} for e in (0, 1, 2, 1)])
    assert view.rows["t0"].epochs == 2


def test_a_report_after_the_end_does_not_start_a_trial_again() -> None:
    late = {"event": "epoch", "trial": "t00000", "epoch": 0, "metrics": {"val_accuracy": 0.5}}
    assert view_of([*fake_driver.sweep()[:-2], late]).counts_text() == "1 finished, 2 stopped"


@pytest.mark.parametrize("width", [120, 80, 40])
def test_epochs_of_a_train_run_show_the_deciding_metric_first(width: int) -> None:
    view = view_of(fake_driver.training(), "train")
    header, *rows = drawn(live.live_epochs(view, width, 24), width=width)
    assert header.split()[:3] == ["epoch", "step", "val_accuracy"]
    assert ("train_loss" in header) == (width >= 80)
    assert "train_loss_step" not in header
    assert [row.split()[:3] for row in rows] == [["1/3", "45", "0.9"], ["2/3", "90", "0.91"], ["3/3", "135", "0.92"]]


def test_a_long_train_run_shows_its_last_epochs() -> None:
    view = view_of(fake_driver.training(500), "train")
    lines = drawn(live.live_epochs(view, 80, 24), width=80)
    assert len(lines) <= 20
    assert lines[-2].startswith("500/500") and lines[-1] == f"… {500 - (len(lines) - 2)} more"
    assert "the last 15 of 500 epochs" in "\n".join(drawn(*live.closing_tables(view, 80), width=80))


def test_metric_names_with_markup_and_slashes_are_shown_as_they_are() -> None:
    event = {"event": "epoch", "trial": None, "epoch": 0, "metrics": {"val/acc[red]": 0.5}}
    assert "val/acc[red]" in drawn(live.live_epochs(view_of([event], "train"), 80, 24), width=80)[0]


def test_short_names_are_the_shortest_that_tell_keys_apart() -> None:
    keys = ["model.init_args.lr", "data.init_args.batch_size", "optimizer.init_args.lr", "lr"]
    assert formatting.shorten_keys(keys) == {
        "model.init_args.lr": "model.init_args.lr",
        "data.init_args.batch_size": "batch_size",
        "optimizer.init_args.lr": "optimizer.init_args.lr",
        "lr": "lr",
    }
    assert formatting.shorten_keys(["model.a.lr", "model.b.lr"]) == {"model.a.lr": "a.lr", "model.b.lr": "b.lr"}


@pytest.mark.parametrize(
    "value, shown",
    [(4.24, "4.2s"), (200.0, "3m20s"), (7500, "2h05m"), (371000, "4d07h"), (None, "-"), (59.99, "1m00s")],
)
def test_durations(value: Any, shown: str) -> None:
    assert formatting.format_duration(value) == shown


def test_a_runs_uri_keeps_the_query_of_its_storage() -> None:
    view = view_of([{**fake_driver.sweep()[-1], "uri": "s3://b/p?region=eu"}])
    assert dict(closing_facts(view))["results"] == "trainer results 's3://b/p/mnist-1?region=eu'"


def test_an_epoch_of_a_trial_is_one_line_and_so_is_a_change_of_its_state() -> None:
    """The driver sends a trial's event and its checkpoint's with each of its epochs."""
    about = {"trial": "t00000", "params": {"lr": 0.1}, "elapsed": 1.0}
    running = {"event": "trial", **about, "state": "running", "metric": None}
    events: list[dict[str, Any]] = [fake_driver.begin(1), running]
    for epoch, value in enumerate([0.5, 0.7, 0.6]):
        metrics = {"val_accuracy": value}
        events.append({"event": "epoch", **about, "epoch": epoch, "step": epoch, "metrics": metrics})
        events.append({"event": "checkpoint", "trial": "t00000", "epoch": epoch, "uri": f"runs/c{epoch}"})
        events.append({**running, "epochs": epoch + 1, "metric": value})
    events.append({**running, "params": {"lr": 0.2}})  # an exploit
    end = {"event": "trial", **about, "state": "finished", "epochs": 3, "metric": 0.7, "reason": "trained to its end"}
    lines = [line for line in plain_lines([*events, end, end]) if line.startswith("t0")]
    assert [re.sub(r",? [\d.]+s\b.*", "", line) for line in lines] == [
        "t00000 running",
        "t00000 epoch 1/5 step 0 val_accuracy=0.5",
        "t00000 epoch 2/5 step 1 val_accuracy=0.7",
        "t00000 epoch 3/5 step 2 val_accuracy=0.6",
        "t00000 running at epoch 3, best val_accuracy=0.7",
        "t00000 finished at epoch 3: trained to its end, best val_accuracy=0.7",
    ]


def test_a_checkpoint_of_a_train_run_is_a_line_with_its_place() -> None:
    event = {"event": "checkpoint", "trial": None, "epoch": 0, "step": 8, "uri": "/runs/c1"}
    assert plain_lines([event]) == ["checkpoint of epoch 1 step 8: /runs/c1"]


@pytest.mark.parametrize("mode, best", [("max", "0.8"), ("min", "0.2")])
def test_the_live_table_has_the_best_and_the_latest_value(mode: str, best: str) -> None:
    view = RunView(task="tune", run="r", metric="acc", mode=mode)
    view.apply({"event": "trial", "trial": "t0", "state": "running", "params": {"lr": 0.1}})
    for epoch, value in enumerate([0.5, 0.8, 0.2, 0.5]):
        view.apply({"event": "epoch", "trial": "t0", "epoch": epoch, "metrics": {"acc": value}})
        view.apply({"event": "trial", "trial": "t0", "state": "running", "epochs": epoch + 1, "metric": value})
    view.apply({"event": "epoch", "trial": "t0", "epoch": 4, "metrics": {"acc": float("nan")}})
    heading, row = drawn(live.live_trials(view, 100, 24), width=100)
    assert "best acc" in heading and "latest" in heading
    assert row.split()[2:5] == ["0.1", best, "nan"]
    (closing, *_) = [line for line in drawn(*live.closing_tables(view, 100), width=100) if line.startswith("t0")]
    assert best in closing.split()


def test_hidden_trials_are_counted() -> None:
    view = view_of(fake_driver.sweep(1000)[:-2])
    lines = drawn(live.live_trials(view, 120, 24), width=120)
    assert lines[-1] == f"… {1000 - rows(lines)} more"
    assert not any("more" in line for line in drawn(live.live_trials(view_of(fake_driver.sweep()), 120, 24), width=120))


def test_trials_that_ran_when_the_run_ended_were_interrupted() -> None:
    events = [fake_driver.begin(9), *fake_driver.trial(0, 5, 0.9, "done")]
    events += [{"event": "trial", "trial": "t00001", "state": "running", "params": {}}]
    view = view_of([*events, {"event": "end", "run": "mnist-1", "state": "interrupted"}])
    assert view.counts_text() == "1 finished, 1 interrupted, 7 to come"
    (row,) = [line for line in drawn(*live.closing_tables(view, 120), width=120) if line.startswith("t00001")]
    assert row.split()[1] == "interrupted"
