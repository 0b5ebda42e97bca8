"""The run's page beside the run: `report.html`, written while it goes on and at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trainer_app.errors import LeaseLostError
from trainer_app.formatting import one_line
from trainer_app.records import RunFolder
from trainer_app.run.guard import Guard
from trainer_app.storage import Store, try_once

KEY: Final = "report.html"
EVERY_S: Final = 60.0
SHARE: Final = 50.0  # times what the last one took: a page costs the driver at most 2 % of its time

_log = logging.getLogger(__name__)


class RunPage:
    """Writes the page of a run, without the importance of parameters, which takes seconds.

    Args:
        storage: the whole storage.
        folder: the run's.
    """

    def __init__(self, storage: Store, folder: RunFolder) -> None:
        self._storage, self._folder = try_once(storage), folder
        self.took_s = 0.0

    def pause_s(self) -> float:
        """Return how long to wait until the next page."""
        return max(EVERY_S, SHARE * self.took_s)

    def write(self) -> None:
        """Write the page; whatever keeps it from that is logged, and is nothing to the run."""
        began = time.monotonic()
        try:
            from trainer_app.report import render_page, report_document
            from trainer_app.report.page import has_library

            if has_library():
                document = report_document([(self._storage, self._folder.name)], importance=False)
                try_once(self._folder.run_store).put(KEY, render_page(document).encode())
        except Exception as error:  # noqa: BLE001 - no run fails by its page
            _log.warning("%s was not written: %s", KEY, one_line(error))
        self.took_s = time.monotonic() - began


@contextmanager
def written_page(storage: Store, folder: RunFolder, *, wanted: bool) -> Iterator[None]:
    """Write the run's page every minute or more, and once more after what is done here, unless the lease is lost."""
    page = RunPage(storage, folder)
    guard = Guard("the run's page is written", page.write, every_s=page.pause_s, slow=True)
    try:
        if wanted:
            guard.start()
        yield
    except LeaseLostError:
        wanted = False
        raise
    finally:
        guard.stop(wait_s=10)
        if wanted:
            page.write()
