"""What no run will ever read in a storage: writes that did not end, checkpoints without a manifest.

Only of runs: a storage may hold other folders, and a run what its code wrote into a folder `checkpoints` of its own.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from trainer_app.checkpoint.commit import attempt_of_commit
from trainer_app.records.manifest import MANIFEST
from trainer_app.run import lease_file
from trainer_app.storage import Entry, Store, Unfinished

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
    """Return what is orphaned, in runs that no driver works on.

    Args:
        older_than_s: how old a write must be if the storage can't tell whether its writer lives.
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
        orphans += _find_commits(storage, run)
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
    return [
        Orphan("checkpoint without a manifest", folder, sum(e.size for e in entries), max(e.modified for e in entries))
        for folder, entries in bare.items()
    ]
