"""Take events from Ray's controller to the driver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train

from trainer_app.run.watch import Emit

POLL_S = 0.1
_log = logging.getLogger(__name__)


class Mailbox:
    """An actor that keeps events until the driver asks for them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def put(self, event: dict[str, Any]) -> None:
        """Take an event."""
        self.events.append(event)

    def drain(self) -> list[dict[str, Any]]:
        """Return the events since the last call, oldest first."""
        events, self.events = self.events, []
        return events


class Relay(ray.train.UserCallback):
    """A callback in Ray's controller that turns the workers' reports into events."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        # Waits, so that the last events are in the mailbox before the driver, another caller, reads it the last time
        ray.get([self.mailbox.put.remote(event) for event in report_events(metrics[0], None)])


def report_events(report: dict[str, Any], trial: str | None) -> list[dict[str, Any]]:
    """Return a worker's report as events: the epoch, and the checkpoint if one was committed."""
    place = {"trial": trial, "epoch": report["epochs"] - 1, "step": report["steps"]}
    events = [{"event": "epoch", **place, "metrics": report["metrics"], "elapsed": report["elapsed"]}]
    if report["uri"]:
        events.append({"event": "checkpoint", **place, "uri": report["uri"]})
    return events


@contextmanager
def relaying_events(mailbox: Any, emit: Emit) -> Iterator[None]:
    """Emit the events that arrive in the mailbox, until the block ends and the mailbox is empty."""
    over = threading.Event()

    def pump() -> None:
        failed = False
        while True:
            last = over.is_set()
            try:
                for event in ray.get(mailbox.drain.remote()):
                    emit(event)
            except Exception:  # noqa: BLE001 - this thread outlives whatever it meets
                if not failed:
                    _log.exception("events of the workers were not shown")
                failed = True
            if last:
                return
            over.wait(POLL_S)

    thread = threading.Thread(target=pump, name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)
