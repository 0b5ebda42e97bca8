"""What the user's code raises: one line with class, message and line, in every process, whatever the class is like."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from trainer_app.callbacks.epoch import Policy
from trainer_app.config import RunConfig, loads
from trainer_app.errors import InputError, TrainerError, UserError
from trainer_app.records import FitFolder
from trainer_app.run.retry import is_permanent
from trainer_app.storage import open_store
from trainer_app.training import worker
from trainer_app.tuning import pbt_checks
from trainer_app.user_errors import FitProgress, describe_error, plain_errors

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

FILE = "tests/unit/test_user_errors.py"


class BadRow(Exception):  # noqa: N818
    """Takes more than a message, and holds what can't be pickled."""

    def __init__(self, table: str, row: int, *, why: str) -> None:
        super().__init__(f"row {row} of {table}: {why}")
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    """Refuses attributes."""

    row: int


class Mute(Exception):  # noqa: N818
    """Can't even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Stops(BaseException):
    """No Exception."""


def raise_local() -> Never:
    class Local(ValueError):  # noqa: N818
        pass

    raise Local("of a function")


def throw(error: BaseException) -> Callable[[], Never]:
    def raise_it() -> Never:
        raise error

    return raise_it


RAISED: dict[str, tuple[Callable[[], Any], str]] = {
    "a plain one": (throw(ValueError("boom")), "ValueError: boom"),
    "several arguments": (
        throw(urllib.error.HTTPError("http://x", 404, "Not Found", None, None)),  # type: ignore[arg-type]
        "HTTPError: HTTP Error 404: Not Found",
    ),
    "not to be pickled": (throw(BadRow("people", 7, why="no age")), "BadRow: row 7 of people: no age"),
    "a class in a function": (raise_local, "Local: of a function"),
    "frozen": (throw(Frozen(7)), "Frozen: 7"),
    "without a message": (throw(Mute()), "Mute: its message can't be read: __str__ raised RuntimeError"),
    "no Exception": (throw(Stops("now")), "Stops: now"),
    "Ctrl-C of the code itself": (throw(KeyboardInterrupt("mine")), "KeyboardInterrupt: mine"),
    "a group": (
        throw(ExceptionGroup("rows", [BadRow("a", 1, why="x"), KeyError("y")])),
        "ExceptionGroup: rows (2 sub-exceptions): BadRow: row 1 of a: x; KeyError: 'y'",
    ),
    "an exit": (lambda: sys.exit(3), "SystemExit: the user's code called sys.exit(3)"),
    "an exit of the process": (lambda: os._exit(3), "OsExit: the user's code called os._exit(3)"),
    "an exit with a text": (lambda: sys.exit("no data"), "SystemExit: the user's code called sys.exit('no data')"),
}


def in_worker(function: Callable[[], Any]) -> TrainerError:
    """What reaches the driver of what `function` raises in a worker: in a thread there, and pickled on the way."""
    raised: list[bytes] = []

    def run() -> None:
        try:
            with plain_errors():
                function()
        except TrainerError as error:
            raised.append(pickle.dumps(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    error: TrainerError = pickle.loads(raised[0])  # noqa: S301
    return error


@pytest.mark.parametrize("name", RAISED)
def test_every_exception_reaches_the_driver_as_text(name: str) -> None:
    function, text = RAISED[name]
    error = in_worker(function)
    assert isinstance(error, UserError)
    assert str(error).startswith(f"{text} ({FILE}:") and describe_error(error) == str(error)
    assert error.traceback.startswith(("Traceback (most", "  + Exception Group")) and not error.comes_again
    assert describe_error(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


def test_our_own_errors_keep_their_class() -> None:
    error = in_worker(throw(InputError("no CUDA device")))
    assert type(error) is InputError and error.exit_code == 2


def test_rays_own_exit_of_a_trial_is_no_error_of_the_code(tmp_path: Path) -> None:
    session = tmp_path / "site-packages" / "ray" / "session.py"
    code = compile("import sys\ndef report():\n    sys.exit(0)\n", str(session), "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    with pytest.raises(SystemExit), plain_errors():
        names["report"]()


def test_rays_own_exit_through_the_hook_of_wandb_is_no_error_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "site-packages" / "wandb" / "sdk" / "lib" / "exit_hooks.py"
    names: dict[str, Any] = {"original": sys.exit}
    exec(compile("def exit(code=0):\n    original(code)\n", str(hooks), "exec"), names)
    monkeypatch.setattr(sys, "exit", names["exit"])
    test_rays_own_exit_of_a_trial_is_no_error_of_the_code(tmp_path)
    with pytest.raises(UserError, match=r"sys\.exit\(3\)"), plain_errors():
        sys.exit(3)


def test_ctrl_c_in_the_main_thread_is_no_error_of_the_code() -> None:
    with pytest.raises(KeyboardInterrupt), plain_errors():
        raise KeyboardInterrupt


# --- where a fit fails decides whether it is tried again


class Numbers(Dataset[torch.Tensor]):
    """Some samples; one of them can fail."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.bad:
            raise BadRow("numbers", index, why="asked for")
        return torch.ones(2)


class Fails(L.LightningModule):
    """Raises in one place."""

    def __init__(self, place: str = "") -> None:
        super().__init__()
        self.place = place
        self.net = torch.nn.Linear(2, 1)
        self._fail("init")

    def _fail(self, place: str) -> None:
        if place == self.place:
            raise BadRow("people", 7, why="no age")

    def setup(self, stage: str) -> None:
        self._fail("setup")

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if index == 1:
            self._fail("step")
        return self.net(batch).sum()

    def configure_optimizers(self) -> Any:
        self._fail("optimizers")
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def train_dataloader(self) -> Any:
        self._fail("loader")
        if self.place == "worker":
            return DataLoader(Numbers(bad=5), batch_size=4, num_workers=1)
        return DataLoader(Numbers(0 if self.place == "first sample" else None), batch_size=4)


def run_file(place: str) -> RunConfig:
    init_args = f"{{class_path: {__name__}.Fails, init_args: {{place: {place}}}}}"
    return loads(f"name: r\nmodel: {init_args}\ntrainer: {{max_epochs: 1}}\nstorage: {{uri: runs}}")


def test_a_model_that_fails_is_told_in_the_check_of_pbt() -> None:
    """Which builds the model in the driver."""
    with pytest.raises(UserError, match=rf"^BadRow: row 7 of people: no age \({FILE}:\d+\)$"):
        pbt_checks.shapes(run_file("init"), "model.init_args.place", "init")


def fit_error(tmp_path: Path, place: str) -> UserError:
    progress = FitProgress()
    with pytest.raises(UserError) as raised, plain_errors(progress):
        worker.fit(
            run_file(place),
            FitFolder(open_store(str(tmp_path))),
            policy=Policy(),
            report=lambda _: None,
            trainer_kwargs={"devices": 1, "accelerator": "cpu"},
            progress=progress,
        )
    error: UserError = pickle.loads(pickle.dumps(raised.value))  # noqa: S301
    return error


@pytest.mark.parametrize("place", ["init", "setup", "optimizers", "loader", "first sample"])
def test_an_error_before_the_first_batch_comes_again(tmp_path: Path, place: str) -> None:
    error = fit_error(tmp_path, place)
    assert is_permanent(error) and "BadRow" in str(error) and f"({FILE}:" in str(error)


def test_an_error_in_a_step_has_its_step(tmp_path: Path) -> None:
    error = fit_error(tmp_path, "step")
    line = 1 + Path(__file__).read_text().split("\n").index('            raise BadRow("people", 7, why="no age")')
    assert str(error) == f"BadRow: row 7 of people: no age ({FILE}:{line})"
    assert not is_permanent(error) and error.signature == ("BadRow", f"{FILE}:{line}", 1)


def test_an_error_in_a_data_loaders_process_names_its_line(tmp_path: Path) -> None:
    """torch makes a RuntimeError of a class that takes more than a message."""
    error = fit_error(tmp_path, "worker")
    assert f"BadRow: row 5 of numbers: asked for ({FILE}:" in str(error) and "Traceback" not in str(error)
