"""From a run's folder in storage to its results: one listing, then its small objects in parallel."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from trainer_app.errors import CheckpointRejectedError, NotFoundError, StorageError
from trainer_app.metric_order import best_of
from trainer_app.records import RunFolder, RunRecord, TrialRecord, merge_metrics, parse_part_key
from trainer_app.records.manifest import MANIFEST, parse_manifest
from trainer_app.results.model import Best, Checkpoint, FitResults, RunResults
from trainer_app.storage import Store, open_store, split_uri

PARALLEL = 16
DEFAULT_STORAGE = "runs"


def resolve_run(run: str | None, storage: str | None = None) -> tuple[str, str | None]:
    """(storage URI, run's name or None) of what a person gave.

    Args:
        run: a name in the storage, or a full URI or path to a run (with a slash in it), or None.
        storage: a URI; None is TRAINER_STORAGE_URI or the folder `runs`.
    """
    if run and ("/" in run or run in (".", "..")):
        return split_uri(run)
    return storage or os.environ.get("TRAINER_STORAGE_URI") or DEFAULT_STORAGE, run


def load_run(storage_uri: str, run: str) -> RunResults:
    """Reads a run.

    Raises:
        NotFoundError: no such run, with the names nearest to it.
        StorageError: no answer, or a damaged run.json; other damaged objects are listed in `problems`.
    """
    return read_run(open_store(storage_uri), run)


def read_run(storage: Store, run: str, *, checkpoints: bool = True, parallel: int = PARALLEL) -> RunResults:
    """As `load_run`, of an open storage; without checkpoints their manifests are not read."""
    folder = RunFolder.open(storage, run)
    sizes = {entry.key: entry.size for entry in folder.run_store.list()}
    wanted = [key for key in sizes if _is_wanted(key, checkpoints=checkpoints)]
    problems: list[str] = []
    contents = _get_all(folder.run_store, wanted, problems, parallel)
    fits = [
        _unit(folder, trial, keys, contents, sizes, problems)
        for trial, keys in sorted(_by_unit(wanted).items(), key=lambda item: item[0] or "")
    ]
    fits.sort(key=lambda fit: fit.record.index if fit.record else -1)
    metric, mode = folder.record.metric, folder.record.mode
    best = best_of(((fit.best.value if fit.best else None, fit.best) for fit in fits), mode)
    found = [checkpoint for fit in fits for checkpoint in fit.checkpoints]
    chosen = best_of(((c.metrics.get(metric or ""), c) for c in found), mode)
    newest = max(found, key=lambda c: (c.step, c.time), default=None)
    return RunResults(folder.uri, folder.record, fits, best, chosen or newest, problems)


def _is_wanted(key: str, *, checkpoints: bool) -> bool:
    trial, inner = _split(key)
    if inner == "trial.json":
        return trial is not None
    if inner.startswith("metrics/"):
        return parse_part_key(inner) is not None
    return checkpoints and inner.startswith("checkpoints/") and inner.endswith(f"/{MANIFEST}") and inner.count("/") == 2


def _split(key: str) -> tuple[str | None, str]:
    """(trial, key in its folder)."""
    if key.startswith("trials/") and key.count("/") >= 2:
        _, trial, inner = key.split("/", 2)
        return trial, inner
    return None, key


def _by_unit(keys: Iterable[str]) -> Mapping[str | None, list[str]]:
    fits: dict[str | None, list[str]] = defaultdict(list)
    for key in keys:
        fits[_split(key)[0]].append(key)
    return fits


def _get_all(store: Store, keys: list[str], problems: list[str], parallel: int) -> dict[str, bytes]:
    """Contents by key; what was removed since the listing (retention) is left out."""

    def get(key: str) -> bytes | StorageError | None:
        try:
            return store.get(key)
        except NotFoundError:
            return None
        except StorageError as error:
            return error

    with ThreadPoolExecutor(parallel) as pool:
        answers = dict(zip(keys, pool.map(get, keys), strict=True))
    problems += [str(answer) for answer in answers.values() if isinstance(answer, StorageError)]
    return {key: answer for key, answer in answers.items() if isinstance(answer, bytes)}


@dataclass
class _Found:
    """A unit's objects, as far as they could be read."""

    record: TrialRecord | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)


def _unit(
    folder: RunFolder,
    trial: str | None,
    keys: list[str],
    contents: Mapping[str, bytes],
    sizes: Mapping[str, int],
    problems: list[str],
) -> FitResults:
    found = _Found()
    parts = []
    for key in (key for key in keys if key in contents):
        inner = _split(key)[1]
        try:
            if inner == "trial.json":
                found.record = TrialRecord.from_json(contents[key], key)
            elif inner.startswith("metrics/"):
                merge_metrics([(key, contents[key])])  # a damaged part costs its own epochs, not the others'
                parts.append((key, contents[key]))
            else:
                found.checkpoints.append(_checkpoint(folder.run_store, trial, key, contents[key], sizes))
        except (CheckpointRejectedError, StorageError) as error:
            problems.append(str(error))
    found.history = merge_metrics(parts)
    found.checkpoints.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.name))
    best = _best(folder.record, trial, found)
    return FitResults(trial, found.record, found.history, found.checkpoints, best)


def _best(run: RunRecord, trial: str | None, found: _Found) -> Best | None:
    line = best_of(((line["metrics"].get(run.metric), line) for line in found.history), run.mode)
    if line is None or run.metric is None:
        return None
    params = found.record.params if found.record else {}
    return Best(trial, line["epoch"], float(line["metrics"][run.metric]), params, line["metrics"])


def _checkpoint(store: Store, trial: str | None, key: str, data: bytes, sizes: Mapping[str, int]) -> Checkpoint:
    """Raises CheckpointRejectedError if the manifest is damaged, or an object is missing or of another size."""
    folder = key.removesuffix(f"/{MANIFEST}")
    name = folder.rpartition("/")[2]
    manifest = parse_manifest(data, name=name, where=key)
    for payload, described in manifest.objects.items():
        size = sizes.get(f"{folder}/{payload}")
        if size != described.size:
            found = "is missing" if size is None else f"has {size} bytes"
            raise CheckpointRejectedError(
                f"{folder}/{payload} {found}, its manifest says {described.size}: this checkpoint doesn't count"
            )
    total = sum(described.size for described in manifest.objects.values())
    uri = store.child(folder).uri
    return Checkpoint(trial, name, uri, manifest.epochs, manifest.step, total, manifest.time, manifest.metrics)
