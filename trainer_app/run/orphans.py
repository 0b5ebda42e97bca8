"""What nobody will read in a storage: writes that did not end, checkpoints without a manifest, parts of predictions.

Only of runs: a storage may hold other folders, and a run what its code wrote into a folder `checkpoints` of its own.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trainer_app.checkpoint.commit import attempt_of_commit
from trainer_app.records.manifest import MANIFEST
from trainer_app.run import lease_file
from trainer_app.storage import Entry, Store, Unfinished

PREDICTIONS: Final = "predictions"  # the folder, in a run's, of the parts of predictions that are not complete
_PREDICTION: Final = re.compile("[0-9a-f]{16}")
_COMMIT: Final = re.compile(r"((?:trials/[^/]+/)?checkpoints/([^/]+))/")


@dataclass(frozen=True)
class Orphan:
    """Something that can be removed: a folder of objects, or an unfinished write. `size` in bytes."""

    what: str
    key: str
    size: int
    modified: float  # unix seconds
    unfinished: Unfinished | None = None

    def remove(self, storage: Store) -> None:
        """Remove it from the storage that it was found in."""
        if self.unfinished:
            storage.discard(self.unfinished)
        else:
            storage.delete_prefix(self.key)


def find_orphans(storage: Store, *, older_than_s: float) -> list[Orphan]:
    """Return what is orphaned, of runs and predictions that no process works on.

    Args:
        older_than_s: how old the parts of a prediction must be, and a write if the storage can't tell whether its
            writer lives.
    """
    now = time.time()
    runs = [name for name in storage.list_folders() if _is_run(storage.child(name))]
    unfinished = [one for one in storage.list_unfinished() if _is_dead(one, now - older_than_s)]
    unfinished = [one for one in unfinished if one.key.split("/")[0] in runs]
    held = {run: lease_file.is_held(storage.child(run)) for run in {one.key.split("/")[0] for one in unfinished}}
    orphans = [
        Orphan("unfinished write", one.key, one.size, one.modified, one)
        for one in unfinished
        if not held[one.key.split("/")[0]]
    ]
    for run in runs:
        orphans += _find_commits(storage, run) + _find_predictions(storage, run, now - older_than_s)
    return sorted(orphans, key=lambda orphan: orphan.key)


def _is_run(store: Store) -> bool:
    return any(store.exists(key) for key in ("run.json", "run.yaml"))


def _is_dead(unfinished: Unfinished, before: float) -> bool:
    return unfinished.modified < before if unfinished.live is None else not unfinished.live


def _find_commits(storage: Store, run: str) -> list[Orphan]:
    """Return the checkpoints of a run that have no manifest; none if a driver works on it."""
    folders: dict[str, list[Entry]] = defaultdict(list)
    for entry in storage.list(run):
        if (found := _COMMIT.match(entry.key)) and attempt_of_commit(found[2]):
            folders[f"{run}/{found[1]}"].append(entry)
    bare = {
        folder: entries
        for folder, entries in folders.items()
        if not any(entry.key.endswith(f"/{MANIFEST}") for entry in entries)
    }
    if not bare or lease_file.is_held(storage.child(run)):
        return []
    return [_make_orphan("checkpoint without a manifest", folder, entries) for folder, entries in bare.items()]


def _find_predictions(storage: Store, run: str, before: float) -> list[Orphan]:
    """Return the predictions of a run that were not continued since a time, and that no process works on."""
    folders: dict[str, list[Entry]] = defaultdict(list)
    for entry in storage.list(f"{run}/{PREDICTIONS}"):
        name = entry.key.partition("/")[0]
        if _PREDICTION.fullmatch(name):
            folders[f"{run}/{PREDICTIONS}/{name}"].append(entry)
    stopped = [_make_orphan("incomplete prediction", folder, entries) for folder, entries in folders.items()]
    return [one for one in stopped if one.modified < before and not lease_file.is_held(storage.child(one.key))]


def _make_orphan(what: str, key: str, entries: Sequence[Entry]) -> Orphan:
    return Orphan(what, key, sum(entry.size for entry in entries), max(entry.modified for entry in entries))
