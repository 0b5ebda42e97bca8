"""A run's artifacts, best checkpoint and logs, copied into a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from trainer_app.errors import NotFoundError, StorageError
from trainer_app.results.model import ARTIFACTS
from trainer_app.results.outcome import read_outcome
from trainer_app.storage import Entry, Store
from trainer_app.storage.parallel import PARALLEL
from trainer_app.storage_uri import find_key_problem

LOGS = "logs"


def list_files(storage: Store, run: str, pattern: str | None = None) -> list[Entry]:
    """Return the artifacts, the best checkpoint and the logs of a run, by key in its folder.

    Args:
        storage: the whole storage.
        pattern: a glob of keys, of names, or of paths below `artifacts/`; a folder's is all that is in it.

    Raises:
        NotFoundError: there is no such run, or nothing matches.
    """
    run_store, best = storage.child(run), read_outcome(storage, run).checkpoint
    folders = [ARTIFACTS, LOGS]
    if best is not None:
        folders.append(f"trials/{best.trial}/checkpoints/{best.name}" if best.trial else f"checkpoints/{best.name}")
    entries = [
        Entry(f"{folder}/{entry.key}", entry.size, entry.modified)
        for folder in folders
        for entry in run_store.list(folder)
    ]
    chosen = [entry for entry in entries if pattern is None or matches(entry.key, pattern)]
    if not chosen:
        some = ", ".join(entry.key for entry in entries[:5])
        advice = f"it has {some}{', ...' if len(entries) > 5 else ''}" if entries else "it has none yet"
        what = "artifact, checkpoint or log" + (f" that matches {pattern}" if pattern else "")
        raise NotFoundError(f"run {run} has no {what}; {advice}")
    return chosen


def matches(key: str, pattern: str) -> bool:
    """Return whether a glob matches the key, its last part, its path below `artifacts/`, or a folder of these."""
    pattern = pattern.removeprefix("./").rstrip("/")
    names = [key, key.rpartition("/")[2], key.removeprefix(f"{ARTIFACTS}/")]
    return any(fnmatchcase(name, glob) for name in names for glob in (pattern, f"{pattern}/*"))


def fetch(run_store: Store, keys: Iterable[str], folder: Path) -> list[str]:
    """Copy objects into a folder, each whole or not at all; one that is gone since the listing is left out.

    Who writes the storage chooses the names: none leads out of the folder, not through a link in it either.

    Args:
        run_store: the run's folder.
        keys: of its objects.
        folder: of this machine; it is made if it is not there.

    Returns:
        a line for each object that was not copied, and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PARALLEL) as pool:
        problems = pool.map(lambda key: _fetch_one(run_store, key, folder), keys)
        return [problem for problem in problems if problem]


def _fetch_one(run_store: Store, key: str, folder: Path) -> str:
    target = folder / key
    if problem := find_key_problem(key):
        return f"{key!r}: {problem}"
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        return f"{key}: a link in {folder} leads out of it"
    try:
        run_store.get_file(key, target)
    except NotFoundError:
        return ""
    except StorageError as error:
        return f"{key}: {error}"
    return ""


def total_size(entries: Sequence[Entry]) -> int:
    """Return the bytes of all entries."""
    return sum(entry.size for entry in entries)
