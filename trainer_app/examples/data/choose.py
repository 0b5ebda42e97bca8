"""The choice of a run's data: made once, by the driver, then used by every rank, trial and retry, or refused."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trainer_app.examples.data import cache as caches
from trainer_app.examples.data.download import DownloadError
from trainer_app.examples.data.idx import Arrays, DataError
from trainer_app.examples.data.sources import Source, download_source, find_files, find_source, folder_source, layouts

log = logging.getLogger(__name__)

AUTO_SECONDS: Final = 10.0
# Debian's package dataset-fashion-mnist. Its files have the names of MNIST's: only their content differs.
SYSTEM_FOLDERS: Final = {"FashionMNIST": ("/usr/share/datasets/fashion-mnist",)}
FASHION_MNIST_CHECKSUM: Final = "sha256:58a45a1e6a85a2cf35f8972c90a77afe1fc31e8e13fc07641fe60dfb348d71a9"


def resolve_source(init_args: Mapping[str, Any], *, dataset: str) -> dict[str, Any]:
    """Choose the source of a run's data, for a data module's `resolve_init_args`.

    Returns:
        `init_args` with a concrete `source` and the `checksum` of its data.

    Raises:
        DataError: the source has no such data, or `init_args` has another checksum already.
    """
    wanted = str(init_args.get("source") or "auto")
    name, digest = _resolve_auto(dataset) if wanted == "auto" else _resolve_named(wanted, dataset)
    expected = init_args.get("checksum")
    if expected and expected != digest:
        raise DataError(
            f"data source {name!r}: holds {digest[:19]}..., the run started with {str(expected)[:19]}...; restore the"
            " data, or start a new run"
        )
    return {**init_args, "source": name, "checksum": digest}


def load_arrays(source: str, *, dataset: str, checksum: str | None = None) -> Arrays:
    """Return the images, memory-mapped from this node's cache, and fetch them first if they are not there.

    Args:
        source: as a run file names it.
        dataset: MNIST or FashionMNIST.
        checksum: return exactly this data, even if the source has changed; None takes what the source has.

    Raises:
        DataError: there is no such data, or `checksum` is that of other data.
    """
    cache = caches.cache_dir()
    arrays = caches.load_set(checksum, cache=cache) if checksum else None
    if arrays is not None:
        return arrays
    if source == "auto" and checksum:
        raise DataError("data source 'auto': takes no checksum; name the source that the checksum belongs to")
    digest = str(resolve_source({"source": source, "checksum": checksum}, dataset=dataset)["checksum"])
    arrays = caches.load_set(digest, cache=cache)
    if arrays is None:
        raise DataError(f"{cache}: what was written there can't be read; is its disk full? See TRAINER_CACHE")
    return arrays


def fetch_source(source: Source, *, seconds: float | None = None) -> str:
    """Put the source into this node's cache, once for all processes, and return its checksum.

    Args:
        source: is read only if the cache lacks it or it may have changed.
        seconds: how long to wait for another process that is fetching it; None waits until it is done.

    Raises:
        DataError: it has no such data or can't be kept; a DownloadError if a download fails.
        TimeoutError: another process took longer.
    """
    cache = caches.cache_dir()
    key = hashlib.sha256(source.key.encode()).hexdigest()[:16]
    with caches.lock(key, cache=cache, seconds=seconds):
        fingerprint = source.fingerprint()
        known = caches.recall_checksum(key, fingerprint, cache=cache) if fingerprint is not None else None
        if known and caches.load_set(known, cache=cache) is not None:
            return known
        try:
            with caches.temporary_folder(cache) as work:
                digest = caches.save_set(source.read(work), cache=cache)
            caches.record_checksum(key, fingerprint, digest, cache=cache)
        except OSError as e:
            raise DataError(f"{cache}: cannot keep {source.name} there: {e.strerror or e}; see TRAINER_CACHE") from e
    return digest


def _resolve_named(name: str, dataset: str) -> tuple[str, str]:
    source = find_source(name, dataset)
    return source.name, fetch_source(source)


def _resolve_auto(dataset: str) -> tuple[str, str]:
    for source in _local_sources(dataset):
        return source.name, fetch_source(source)
    until = time.monotonic() + AUTO_SECONDS
    try:
        source = download_source(dataset, seconds=lambda: until - time.monotonic())
        return source.name, fetch_source(source, seconds=AUTO_SECONDS)
    except (DownloadError, TimeoutError) as e:
        places = ", ".join(_candidate_folders(dataset))
        log.warning("data: no %s in %s, and %s; using scikit-learn's digits instead", dataset, places, e)
    return _resolve_named("digits", dataset)


def _local_sources(dataset: str) -> Iterator[Source]:
    for place in _candidate_folders(dataset):
        folder = Path(place).expanduser().absolute()
        named, flat = find_files(folder, layouts(dataset)[:-1]), find_files(folder, ("",))
        if named:
            yield folder_source(folder, named, dataset)
        elif flat:
            source = folder_source(folder, flat, dataset)
            if (fetch_source(source) == FASHION_MNIST_CHECKSUM) == (dataset == "FashionMNIST"):
                yield source


def _candidate_folders(dataset: str) -> list[str]:
    given = os.environ.get("TRAINER_DATA")
    return [*([given] if given else []), "data", *SYSTEM_FOLDERS.get(dataset, ())]
