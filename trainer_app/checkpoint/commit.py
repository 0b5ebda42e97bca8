"""Write, list, verify and download commits: a payload and the manifest that makes it count."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from trainer_app.errors import CheckpointRejectedError, NotFoundError
from trainer_app.records.manifest import MANIFEST, PAYLOAD, REST, Manifest, PayloadObject, parse_manifest
from trainer_app.storage import Store
from trainer_app.storage.parallel import map_parallel

Check = Callable[[], None]
_NAME = re.compile(r"a(\d{4,})-e\d+-s\d+")


@dataclass(frozen=True)
class Commit:
    """A checkpoint whose manifest is in storage. `name` sorts by (attempt, epoch, step)."""

    name: str
    manifest: Manifest
    store: Store

    @property
    def uri(self) -> str:
        """The URI of the commit's folder."""
        return self.store.child(self.name).uri


def name_commit(epochs: int, step: int, attempt: int) -> str:
    """Return the name of a commit.

    The attempt comes first: what a later attempt commits is newer, even if it resumed from an older epoch because the
    newest commit was damaged or PBT cloned another trial.

    Args:
        epochs, step: how many epochs and optimizer steps the fit has finished.
        attempt: the number of the fit's start, 1-based.
    """
    return f"a{attempt:04d}-e{epochs:06d}-s{step:09d}"


def attempt_of_commit(name: str) -> int:
    """Return the attempt in a commit's name; 0 for any other name."""
    match = _NAME.match(name)
    return int(match[1]) if match else 0


def write_commit(store: Store, payload: Path, manifest: Manifest, *, check: Check = lambda: None) -> Commit:
    """Upload `payload`, then the manifest with its size and SHA-256.

    Args:
        store: the fit's folder `checkpoints`.
        payload: a local file, a plain Lightning checkpoint.
        manifest: without `objects` and `name`, which are filled in here.
        check: called before the manifest is written; raises if it must not be.

    Raises:
        StorageError: nothing is committed; a payload without a manifest may remain, which readers ignore.
        AlreadyExistsError: a kind of it: there is such a commit, which another process has made.
    """
    name = name_commit(manifest.epochs, manifest.step, manifest.attempt)
    store.child(name).put_file(PAYLOAD, payload)
    check()
    return write_manifest(store, name, manifest, {PAYLOAD: describe_file(payload)})


def write_manifest(store: Store, name: str, manifest: Manifest, objects: dict[str, PayloadObject]) -> Commit:
    """Make a commit of objects that are all in storage.

    Args:
        store: the fit's folder `checkpoints`.
        name: the commit's.
        manifest: without `objects`, `name` and `seconds`.
        objects: all of the commit's.

    Raises:
        StorageError: as `write_commit`.
    """
    seconds = round(max(0.0, time.time() - manifest.time), 3)
    described = manifest.model_copy(update={"objects": objects, "name": name, "seconds": seconds})
    store.child(name).put(MANIFEST, described.to_json(), create=True)
    return Commit(name, described, store)


def describe_file(path: Path) -> PayloadObject:
    """Return size and SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return PayloadObject(size=size, sha256=digest.hexdigest())


def list_commits(store: Store, *, reject: Callable[[str, str], None] | None = None) -> list[Commit]:
    """Return all commits of a fit, oldest first. `reject(name, reason)` is called for each manifest that is damaged."""

    def read(name: str) -> Commit | None:
        try:
            return read_commit(store, name)
        except NotFoundError:
            return None  # a payload whose manifest was never written: not a commit
        except CheckpointRejectedError as e:
            if reject:
                reject(name, str(e))
            return None

    return [commit for commit in map_parallel(read, sorted(store.list_folders())) if commit]


def newest_commit(store: Store) -> Commit | None:
    """Return the newest commit whose manifest is intact; None if there is none. Older manifests are not read."""
    for name in sorted(store.list_folders(), reverse=True):
        try:
            return read_commit(store, name)
        except (NotFoundError, CheckpointRejectedError):
            continue
    return None


def read_commit(store: Store, name: str) -> Commit:
    """Return the commit of a name.

    Raises:
        NotFoundError: there is no manifest.
        CheckpointRejectedError: the manifest is damaged.
    """
    folder = store.child(name)
    manifest = parse_manifest(folder.get(MANIFEST), name=name, where=f"{folder.uri}/{MANIFEST}")
    return Commit(name, manifest, store)


def download_commit(commit: Commit, folder: Path, *, keys: Collection[str] | None = None) -> Path:
    """Download and verify a commit's objects.

    Args:
        commit: in storage.
        folder: a local one.
        keys: which of its objects; None for all.

    Returns:
        the local path of the Lightning checkpoint, inside `folder`; of a sharded commit that of `meta.pt`.

    Raises:
        CheckpointRejectedError: an object is missing, or its size or SHA-256 differs from the manifest.
    """
    objects = commit.manifest.objects
    payload = REST if commit.manifest.is_sharded else PAYLOAD
    if payload not in objects:
        raise CheckpointRejectedError(f"{commit.uri}/{MANIFEST} lists no {payload}")
    for key in objects if keys is None else keys:
        download_object(commit, key, folder)
    return folder / payload


def download_object(commit: Commit, key: str, folder: Path) -> Path:
    """Download one object of a commit into `folder`, verify it and return its path.

    Raises:
        CheckpointRejectedError: as `download_commit`; or the manifest does not list it.
    """
    path, wanted = folder / key, commit.manifest.objects.get(key)
    if wanted is None:
        raise CheckpointRejectedError(f"{commit.uri}/{MANIFEST} lists no {key}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        commit.store.child(commit.name).get_file(key, path)
    except NotFoundError as e:
        raise CheckpointRejectedError(f"{commit.uri}/{key} is missing") from e
    got = describe_file(path)
    if got != wanted:
        path.unlink()
        raise CheckpointRejectedError(
            f"{commit.uri}/{key} does not match its manifest: {got.size} bytes, SHA-256 {got.sha256[:12]}, "
            f"expected {wanted.size} bytes, {wanted.sha256[:12]}"
        )
    return path


def download_newest(
    store: Store, folder: Path, *, reject: Callable[[str, str], None] | None = None
) -> tuple[Commit, Path] | None:
    """Download the newest commit that verifies into `folder` and return it; None if there is none.

    Args:
        store: the fit's folder `checkpoints`.
        reject: called with (name, reason) for each commit that does not; the next older one is tried.
    """
    names: list[str] = []
    while (listed := store.list_folders()) != names:  # a former worker may replace the newest meanwhile
        names = listed
        for name in sorted(names, reverse=True):
            try:
                commit = read_commit(store, name)
                return commit, download_commit(commit, folder)
            except NotFoundError:
                continue  # payload without a manifest: the writer was stopped before it committed
            except CheckpointRejectedError as e:
                if reject:
                    reject(name, str(e))
    return None
