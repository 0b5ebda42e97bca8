"""What killed attempts have left in a fit's folder: writes that did not end, checkpoints without a manifest."""

from __future__ import annotations

import logging
from typing import Final

from trainer_app.checkpoint.commit import attempt_of_commit
from trainer_app.errors import StorageError
from trainer_app.records import FitFolder
from trainer_app.records.manifest import MANIFEST
from trainer_app.storage import Unfinished, try_once

_log: Final = logging.getLogger(__name__)


def remove_leftovers(fit_folder: FitFolder, attempt: int) -> None:
    """Remove what lower attempts than `attempt`, which has written nothing yet, have left. A failure is logged.

    A writer that lives in spite of it writes its object anew.
    """
    store, checkpoints = try_once(fit_folder.store), try_once(fit_folder.checkpoints)
    try:
        for unfinished in store.list_unfinished():
            if _is_dead(unfinished, attempt):
                store.discard(unfinished)
        keys = {entry.key for entry in checkpoints.list()}
        for name in sorted({key.partition("/")[0] for key in keys}):
            if 0 < attempt_of_commit(name) < attempt and f"{name}/{MANIFEST}" not in keys:
                checkpoints.delete_prefix(name)
    except StorageError as error:
        _log.warning("what former attempts left in %s stays: %s", fit_folder.store.uri, error)


def _is_dead(unfinished: Unfinished, attempt: int) -> bool:
    if unfinished.live is not None:
        return not unfinished.live
    return 0 < max(map(attempt_of_commit, unfinished.key.split("/"))) <= attempt
