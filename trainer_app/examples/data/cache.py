"""One copy of each data set per node: fetched once, memory-mapped by every worker, named by its checksum.

Layout: <cache>/sets/<checksum>/{train_images,...}.npy, <cache>/sources/<key>.json (the checksum of a source, with the
fingerprint it had then), <cache>/locks/<key>, <cache>/partial-* (a fetch in progress; the next one removes what a
killed one left).
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
    """Return the SHA-256 over the name, shape and bytes of the four arrays."""
    digest = hashlib.sha256()  # 29 ms for MNIST's 55 MB
    for key in KEYS:
        array = getattr(arrays, key)
        digest.update(f"{key} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def cache_dir() -> Path:
    """Return TRAINER_CACHE, XDG_CACHE_HOME/trainer, ~/.cache/trainer, or a private folder in /tmp.

    Raises:
        DataError: TRAINER_CACHE, or each of the others, can't be written.
    """
    setting = os.environ.get("TRAINER_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    wanted = Path(setting or Path(home, "trainer")).expanduser().absolute()
    try:
        return _make_writable(wanted)
    except (OSError, RuntimeError) as e:  # RuntimeError: no home folder
        if setting:
            raise DataError(f"TRAINER_CACHE={setting}: cannot be written: {e}; name a folder that can") from e
    private = Path(tempfile.gettempdir(), f"trainer-cache-{os.getuid()}")
    try:
        _make_writable(private)
    except OSError as e:
        raise DataError(f"{wanted} and {private}: cannot be written; set TRAINER_CACHE to a folder that can") from e
    if private.stat().st_uid != os.getuid():
        raise DataError(f"{private}: belongs to another user; set TRAINER_CACHE to a folder of your own")
    return private


def load_set(wanted: str, *, cache: Path) -> Arrays | None:
    """Return the set with that checksum, memory-mapped copy-on-write and verified; None if missing or damaged."""
    folder = _set_folder(wanted, cache)
    try:
        parts = {key: np.load(folder / f"{key}.npy", mmap_mode="c", allow_pickle=False) for key in KEYS}
    except (OSError, ValueError, EOFError):  # not there; cut short
        return None
    arrays = Arrays(**parts)
    return arrays if checksum(arrays) == wanted else None


def save_set(arrays: Arrays, *, cache: Path) -> str:
    """Write a set, complete or not at all, and return its checksum. A damaged copy is replaced."""
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
                if folder.exists():  # damaged; the next `temporary_folder` removes it
                    folder.rename(partial.with_name(f"{partial.name}-damaged"))
                partial.rename(folder)
    return digest


def recall_checksum(key: str, fingerprint: Any, *, cache: Path) -> str | None:
    """Return the recorded checksum of a source, None if there is none or the source may have changed.

    Args:
        key: of the source, as a file's name.
        fingerprint: what the source has now; plain JSON.
        cache: the folder of `cache_dir`.
    """
    try:
        note = json.loads((cache / "sources" / f"{key}.json").read_text())
        return str(note["checksum"]) if note["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_checksum(key: str, fingerprint: Any, digest: str, *, cache: Path) -> None:
    """Record the checksum of a source for `recall_checksum`.

    Args:
        key: of the source, as a file's name.
        fingerprint: plain JSON that changes if the content may have changed.
        digest: the checksum, as `save_set` returns it.
        cache: the folder of `cache_dir`.
    """
    target = cache / "sources" / f"{key}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(cache) as partial:
        (partial / "note").write_text(json.dumps({"fingerprint": fingerprint, "checksum": digest}))
        (partial / "note").replace(target)


@contextmanager
def lock(key: str, *, cache: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold a lock of this node, which the kernel releases if its holder dies.

    Args:
        key: the lock's name.
        cache: the folder of `cache_dir`.
        seconds: how long to wait for it; None waits until it is free.

    Raises:
        TimeoutError: another process held it for longer.
    """
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    until = None if seconds is None else time.monotonic() + seconds
    with open(folder / key, "w") as f:
        while not _try_lock(f, wait=until is None):
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"another process has fetched it for more than {seconds:.0f} s")
            time.sleep(0.1)
        yield


@contextmanager
def temporary_folder(cache: Path) -> Iterator[Path]:
    """Yield an empty folder beside the sets, so that a rename out of it is atomic. Remove what killed fetches left."""
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
    """Remove folders whose lock is free: their process has died. A process id says nothing in another container."""
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
