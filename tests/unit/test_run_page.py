"""report.html beside a run: written at its end, never the reason that a run fails."""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from tests.faulty_store import SILENT, Faults, FaultyStore
from tests.run_samples import train_run, tune_run
from trainer_app.errors import LeaseLostError, NotFoundError
from trainer_app.records import RunFolder
from trainer_app.run import page
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def html_of(folder: RunFolder) -> str:
    return folder.run_store.get("report.html").decode()


def test_a_runs_page_has_how_it_ended(storage: Store) -> None:
    folder = train_run(storage)
    with page.written_page(storage, folder, wanted=True):
        folder.update(state="succeeded")
    assert '"state": "succeeded"' in html_of(folder) and html_of(folder).startswith("<!doctype html>")


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_that_fails_has_a_page_if_it_is_wanted(storage: Store, wanted: bool) -> None:
    folder = train_run(storage)
    folder.update(state="interrupted")
    with pytest.raises(KeyboardInterrupt), page.written_page(storage, folder, wanted=wanted):
        raise KeyboardInterrupt
    if wanted:
        assert '"state": "interrupted"' in html_of(folder)
    else:
        with pytest.raises(NotFoundError):
            html_of(folder)


def test_who_lost_the_lease_writes_no_page(storage: Store) -> None:
    folder = train_run(storage)
    with pytest.raises(LeaseLostError), page.written_page(storage, folder, wanted=True):
        raise LeaseLostError("another driver has it")
    with pytest.raises(NotFoundError):
        html_of(folder)


def test_it_is_refreshed_while_the_run_goes_on(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:

    folder, written = train_run(storage), threading.Event()
    monkeypatch.setattr(page, "EVERY_S", 0.01)
    monkeypatch.setattr(page.RunPage, "write", lambda self: written.set())
    with page.written_page(storage, folder, wanted=True):
        assert written.wait(20)


def test_the_longer_a_page_takes_the_rarer_it_is(storage: Store) -> None:
    one = page.RunPage(storage, train_run(storage))
    assert one.pause_s() == 60.0
    one.took_s = 12.0
    assert one.pause_s() == 600.0


def test_what_keeps_a_page_from_being_written_is_logged_and_nothing_else(
    storage: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train_run(storage)
    folder.run_store = cast(Any, FaultyStore(folder.run_store, Faults(always=SILENT)))
    with caplog.at_level(logging.WARNING), page.written_page(storage, folder, wanted=True):
        pass
    assert "report.html was not written" in caplog.text
    monkeypatch.setattr("trainer_app.report.page.has_library", lambda: False)
    page.RunPage(storage, train_run(storage, "other")).write()
    with pytest.raises(NotFoundError):
        storage.child("other").get("report.html")


def test_a_sweeps_own_page_leaves_importance_to_the_verb(storage: Store) -> None:
    folder = tune_run(storage)
    page.RunPage(storage, folder).write()
    assert "trainer report computes it" in html_of(folder)


def test_a_bucket_has_the_page_as_html_and_no_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console shows the one, and downloads what a project wrote under the same name."""
    client = Mock()
    monkeypatch.setattr("trainer_app.storage.s3.S3Store._s3", lambda *_: nullcontext(client))
    store = open_store("s3://bucket/runs").child("run")
    (tmp_path / "report.html").write_text("<p>")
    store.put("report.html", b"<p>")
    store.child("artifacts").put_file("report.html", tmp_path / "report.html")
    store.put("run.json", b"{}")
    sent = {call.kwargs["Key"]: call.kwargs.get("ContentType") for call in client.put_object.call_args_list}
    page_type = "text/html; charset=utf-8"
    assert sent == {
        "runs/run/report.html": page_type,
        "runs/run/artifacts/report.html": None,
        "runs/run/run.json": None,
    }
