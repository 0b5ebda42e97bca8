"""One copy of each data set on a node: fetched once, memory-mapped by every worker, found by its checksum.

Layout: <cache>/sets/<checksum>/{train_images,...}.npy, <cache>/sources/<key>.json (what a source held when it was last
read), <cache>/locks/<key>, <cache>/partial-* (a fetch under way; what a killed one left is removed by the next).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer_app.examples.data.idx import Arrays, DataError

KEYS = tuple(f.name for f in fields(Arrays))


def checksum(arrays: Arrays) -> str:
    """SHA-256 over train_images, train_labels, test_images, test_labels: for each its name, shape and bytes."""
    digest = hashlib.sha256()  # 29 ms for MNIST's 55 MB
    for key in KEYS:
        array = getattr(arrays, key)
        digest.update(f"{key} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def cache_dir() -> Path:
    """TRAINER_CACHE, or XDG_CACHE_HOME/trainer, or ~/.cache/trainer, or a folder of ours in the temporary folder."""
    given = os.environ.get("TRAINER_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    wanted = Path(given or Path(home, "trainer")).expanduser().absolute()
    try:
        return _make_writable(wanted)
    except (OSError, RuntimeError) as e:  # RuntimeError: no home folder
        if given:
            raise DataError(f"TRAINER_CACHE={given}: cannot be written: {e}; name a folder that can") from e
    own = Path(tempfile.gettempdir(), f"trainer-cache-{os.getuid()}")
    try:
        found = _make_writable(own)
    except OSError as e:
        raise DataError(f"{wanted} and {own}: cannot be written; set TRAINER_CACHE to a folder that can") from e
    if found.stat().st_uid != os.getuid():
        raise DataError(f"{own}: belongs to somebody else; set TRAINER_CACHE to a folder of your own")
    return found


def load_set(wanted: str, *, cache: Path) -> Arrays | None:
    """The set with that checksum, memory-mapped copy-on-write and verified; None if it is not there or is damaged."""
    folder = _set_folder(wanted, cache)
    try:
        found = {key: np.load(folder / f"{key}.npy", mmap_mode="c", allow_pickle=False) for key in KEYS}
    except (OSError, ValueError, EOFError):  # not there; cut short
        return None
    arrays = Arrays(**found)
    return arrays if checksum(arrays) == wanted else None


def save_set(arrays: Arrays, *, cache: Path) -> str:
    """Write a set, whole or not at all, and return its checksum. A damaged copy is replaced."""
    digest = checksum(arrays)
    folder = _set_folder(digest, cache)
    with temporary_folder(cache) as partial:
        for key in KEYS:
            with open(partial / f"{key}.npy", "wb") as f:
                np.save(f, getattr(arrays, key), allow_pickle=False)
                f.flush()
                os.fsync(f.fileno())
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.name, cache=cache):  # another source may hold the same data
            if load_set(digest, cache=cache) is None:
                if folder.exists():
                    folder.rename(
                        partial.with_name(f"{partial.name}-damaged")
                    )  # the next `temporary_folder` removes it
                partial.rename(folder)
    return digest


def recall_checksum(key: str, fingerprint: Any, *, cache: Path) -> str | None:
    """The checksum of what the source `key` held, if it still looks the same."""
    try:
        note = json.loads((cache / "sources" / f"{key}.json").read_text())
        return str(note["checksum"]) if note["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_checksum(key: str, fingerprint: Any, digest: str, *, cache: Path) -> None:
    """Note what the source `key` holds. `fingerprint` is plain JSON."""
    target = cache / "sources" / f"{key}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(cache) as partial:
        (partial / "note").write_text(json.dumps({"fingerprint": fingerprint, "checksum": digest}))
        (partial / "note").replace(target)


@contextmanager
def lock(key: str, *, cache: Path, seconds: float | None = None) -> Iterator[None]:
    """Only one process of this node at a time; the kernel lets go of it when its holder dies.

    Raises TimeoutError after `seconds`; None waits for ever.
    """
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    until = None if seconds is None else time.monotonic() + seconds
    with open(folder / key, "w") as f:
        while not _try_lock(f, wait=until is None):
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"another process was at it for more than {seconds:.0f} s")
            time.sleep(0.1)
        yield


@contextmanager
def temporary_folder(cache: Path) -> Iterator[Path]:
    """An empty folder beside the sets, so that a rename out of it is atomic. What killed fetchers left is removed."""
    with ExitStack() as held:
        with lock("scratch", cache=cache):
            _remove_abandoned(cache)
            folder = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
            _try_lock(held.enter_context(open(cache / "locks" / folder.name, "w")), wait=True)
        try:
            yield folder
        finally:
            _remove(folder)


def _remove_abandoned(cache: Path) -> None:
    """A folder whose lock is free has lost its maker; process ids would not say so between two containers."""
    for left in cache.glob("partial-*"):
        with open(cache / "locks" / left.name, "w") as f:
            if _try_lock(f, wait=False):
                _remove(left)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder.parent / "locks" / folder.name).unlink(missing_ok=True)


def _try_lock(file: IO[str], *, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _set_folder(digest: str, cache: Path) -> Path:
    return cache / "sets" / digest.removeprefix("sha256:")


def _make_writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryFile(dir=folder):
        return folder
