"""A fit that somebody asks to stop ends at a commit, and goes on from there as if nothing had been."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_epoch_reporter import Case, Fitted, fit
from trainer_app.callbacks.epoch import Policy
from trainer_app.checkpoint import list_commits
from trainer_app.errors import LeaseLostError
from trainer_app.records import FitFolder
from trainer_app.run import lease, lease_file, stop
from trainer_app.storage import open_store
from trainer_app.training import worker

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]


def stopped_fit(case: Case, folder: Path, asked: Callable[[int], bool]) -> tuple[Fitted, bool]:
    """`asked` says at how many looks from the first the answer is yes."""
    fitted, looks = Fitted(FitFolder(open_store(str(folder)))), [0]

    def look() -> bool:
        looks[0] += 1
        return asked(looks[0])

    ended = worker.fit(
        case.config,
        fitted.fit_folder,
        policy=Policy(every_n_epochs=case.every, keep=case.keep, stop=look),
        report=fitted.reports.append,
        trainer_kwargs={"devices": 1, "accelerator": "cpu"},
        callbacks=[fitted.counts],
    )
    return fitted, ended


@pytest.mark.parametrize(
    "case", [Case(), Case("Plain", init={"schedule": "step"}, every=5), Case(trainer={"max_steps": 11})]
)
def test_it_stops_at_the_epochs_end_and_goes_on_exactly(case: Case, tmp_path: Path) -> None:
    calm = fit(case, tmp_path / "calm")
    fitted, ended = stopped_fit(case, tmp_path / "hit", lambda look: look >= 3)
    assert ended
    assert [report["epochs"] for report in fitted.reports] == [1, 2]
    newest = list_commits(fitted.fit_folder.checkpoints)[-1]
    assert (newest.manifest.epochs, newest.manifest.step) == (2, fitted.reports[-1]["steps"])  # also where none was due
    assert fitted.reports[-1]["commit"] == newest.name
    again = fit(case, tmp_path / "hit")
    assert again.metrics == calm.metrics
    assert again.counts.seen == calm.counts.seen


def test_before_the_first_epoch_nothing_is_trained(tmp_path: Path) -> None:
    fitted, ended = stopped_fit(Case(), tmp_path, lambda look: True)
    assert ended and fitted.reports == [] and list_commits(fitted.fit_folder.checkpoints) == []


def test_after_the_last_epoch_it_has_finished(tmp_path: Path) -> None:
    fitted, ended = stopped_fit(Case(), tmp_path, lambda look: look >= 4)  # once before each, and at the end
    assert not ended and len(fitted.reports) == 3


@pytest.mark.parametrize("when", [2, 4])
def test_a_worker_of_a_former_driver_keeps_nothing(tmp_path: Path, when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node was cut off; the next driver has begun: between two epochs, or in the last one."""
    monkeypatch.setattr(stop, "EVERY_S", 0.0)
    store = open_store(str(tmp_path)).child("run")
    former = lease.acquire(store, "s")
    look = stop.StopPoll(store, lease.token(store))
    lease_file.check_token(store, former.token)
    former.release()

    def asked(number: int) -> bool:
        if number == when:
            lease.acquire(store, "s")
        return look()

    with pytest.raises(LeaseLostError, match="this worker belongs to a former driver"):
        stopped_fit(Case(), tmp_path / "unit", asked)
    assert len(FitFolder(open_store(str(tmp_path / "unit"))).read_metrics()) == when - 2
    lease.release(store)


def test_storage_is_asked_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now, asked = open_store(str(tmp_path)), [100.0], [0]
    get = type(store).get

    def counted(self: Any, key: str) -> bytes:
        asked[0] += key == stop.REQUEST
        return bytes(get(self, key))

    monkeypatch.setattr(type(store), "get", counted)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    look = stop.StopPoll(store)
    assert not look()
    store.put(stop.REQUEST, b'{"id": "1"}')
    now[0] += 0.9
    assert not look() and asked == [1]
    now[0] += 0.1
    assert look() and look() and asked == [2]
