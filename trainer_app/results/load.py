"""Read a run's folder in storage: one listing, then its small objects in parallel."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer_app.errors import CheckpointRejectedError, NotFoundError, StorageError
from trainer_app.metric_order import best_of
from trainer_app.records import (
    AttemptRecord,
    RunFolder,
    RunRecord,
    TrialRecord,
    newest_lines,
    parse_lines,
    parse_part_key,
)
from trainer_app.records.manifest import MANIFEST, parse_manifest
from trainer_app.records.models import parse_trial_record
from trainer_app.results.attempts import parse_end_key, summarize_attempts
from trainer_app.results.model import ARTIFACTS, Artifact, Best, Checkpoint, FitResults, RunResults, best_checkpoint
from trainer_app.storage import Store, open_store, split_uri
from trainer_app.storage.parallel import map_parallel

DEFAULT_STORAGE = "runs"


def resolve_run(run: str | None, storage: str | None = None) -> tuple[str, str | None]:
    """Return (storage URI, run's name or None) for what a user wrote.

    Args:
        run: a name in the storage, or a URI or path to a run (with a slash in it), or None.
        storage: a URI; None is that of TRAINER_STORAGE_URI, or the folder `runs`.
    """
    if run and ("/" in run or run in (".", "..")):
        return split_uri(run)
    return storage or os.environ.get("TRAINER_STORAGE_URI") or DEFAULT_STORAGE, run


def load_run(storage_uri: str, run: str) -> RunResults:
    """Read a run; damaged objects but run.json are listed in `problems`.

    Raises:
        NotFoundError: there is no such run; the message has the most similar names.
        StorageError: no answer, or run.json is damaged.
    """
    return read_run(open_store(storage_uri), run)


def read_run(storage: Store, run: str) -> RunResults:
    """Read a run of an open storage, as `load_run` does.

    Args:
        storage: the whole storage.
        run: the run's name.

    Raises:
        NotFoundError: there is no such run.
        StorageError: no answer, or run.json is damaged.
    """
    folder = RunFolder.open(storage, run)
    entries = list(folder.run_store.list())
    sizes = {entry.key: entry.size for entry in entries}
    starts = {entry.key: entry.modified for entry in entries if "attempts/" in entry.key}
    wanted = [key for key in sizes if _is_wanted(key)]
    problems = [folder.problem] if folder.problem else []
    contents = get_all(folder.run_store, wanted, problems)
    fits = [
        _read_fit(folder, trial, {key: contents[key] for key in keys if key in contents}, sizes, starts, problems)
        for trial, keys in sorted(_group_by_fit(wanted).items(), key=lambda item: item[0] or "")
    ]
    fits.sort(key=lambda fit: fit.record.index if fit.record else -1)
    metric, mode = folder.record.metric, folder.record.mode
    best = best_of(((fit.best.value if fit.best else None, fit.best) for fit in fits), mode)
    all_checkpoints = [checkpoint for fit in fits for checkpoint in fit.checkpoints]
    checkpoint = best_checkpoint(all_checkpoints, metric, mode)
    artifacts = [Artifact(k[len(ARTIFACTS) + 1 :], sizes[k]) for k in sizes if k.startswith(f"{ARTIFACTS}/")]
    return RunResults(folder.uri, folder.record, fits, best, checkpoint, problems, artifacts)


def _is_wanted(key: str) -> bool:
    trial, inner = _split(key)
    if inner == "trial.json":
        return trial is not None
    if inner.startswith("metrics/"):
        return parse_part_key(inner) is not None
    if inner.startswith("attempts/"):
        return parse_end_key(inner) > 0
    return inner.startswith("checkpoints/") and inner.endswith(f"/{MANIFEST}") and inner.count("/") == 2


def _split(key: str) -> tuple[str | None, str]:
    """Return (trial or None, key in the folder of its fit)."""
    if key.startswith("trials/") and key.count("/") >= 2:
        _, trial, inner = key.split("/", 2)
        return trial, inner
    return None, key


def _group_by_fit(keys: Iterable[str]) -> Mapping[str | None, list[str]]:
    fits: dict[str | None, list[str]] = defaultdict(list)
    for key in keys:
        fits[_split(key)[0]].append(key)
    return fits


def get_all(store: Store, keys: Sequence[str], problems: list[str]) -> dict[str, bytes]:
    """Return contents by key, less what retention removed since the listing; other failures become problems."""

    def get(key: str) -> bytes | StorageError | None:
        try:
            return store.get(key)
        except NotFoundError:
            return None
        except StorageError as error:
            return error

    answers = dict(zip(keys, map_parallel(get, keys), strict=True))
    problems += [str(answer) for answer in answers.values() if isinstance(answer, StorageError)]
    return {key: answer for key, answer in answers.items() if isinstance(answer, bytes)}


def _read_fit(
    folder: RunFolder,
    trial: str | None,
    contents: Mapping[str, bytes],
    sizes: Mapping[str, int],
    starts: Mapping[str, float],
    problems: list[str],
) -> FitResults:
    """Parse the contents of one fit's objects, by key; damage becomes a problem.

    Args:
        sizes: in bytes, by key. starts: when each attempt of any fit began, in unix seconds, by key.
    """
    record: TrialRecord | None = None
    parts: list[tuple[str, bytes]] = []
    checkpoints: list[Checkpoint] = []
    ends: dict[int, AttemptRecord] = {}
    for key, data in contents.items():
        inner = _split(key)[1]
        try:
            if inner == "trial.json":
                record = parse_trial_record(data, str(trial), key)
            elif inner.startswith("metrics/"):
                parts.append((key, data))
            elif number := parse_end_key(inner):
                ends[number] = AttemptRecord.from_json(data, key)
            else:
                checkpoints.append(read_checkpoint(folder.run_store, trial, key, data, sizes))
        except (CheckpointRejectedError, StorageError) as error:
            problems.append(str(error))
    lines = list(parse_lines(parts, problems.append))
    history = newest_lines(line for _, line in lines)
    checkpoints.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.name))
    best = best_line(history, folder.record, trial, record)
    prefix = f"trials/{trial}/attempts/" if trial else "attempts/"
    own_starts = {key.removeprefix(prefix): time for key, time in starts.items() if key.startswith(prefix)}
    return FitResults(trial, record, history, checkpoints, best, summarize_attempts(lines, own_starts, ends))


def best_line(
    history: Sequence[Mapping[str, Any]], run: RunRecord, trial: str | None, record: TrialRecord | None
) -> Best | None:
    """Return the best epoch of a fit by the run's metric; None if none has a value.

    Args:
        history: the lines of its metrics.
        run: the run's record.
        trial, record: the trial's; None for a train run.
    """
    line = best_of(((line["metrics"].get(run.metric), line) for line in history), run.mode)
    if line is None:
        return None
    value = float(line["metrics"][run.metric])
    return Best(trial, line["epoch"], value, record.params if record else {}, line["metrics"])


def read_checkpoint(store: Store, trial: str | None, key: str, data: bytes, sizes: Mapping[str, int]) -> Checkpoint:
    """Verify a manifest and the sizes of its objects. Raises CheckpointRejectedError if either is wrong."""
    folder = key.removesuffix(f"/{MANIFEST}")
    name = folder.rpartition("/")[2]
    manifest = parse_manifest(data, name=name, where=key)
    for payload, described in manifest.objects.items():
        size = sizes.get(f"{folder}/{payload}")
        if size != described.size:
            state = "is missing" if size is None else f"has {size} bytes"
            raise CheckpointRejectedError(
                f"{folder}/{payload} {state}, its manifest says {described.size}: this checkpoint doesn't count"
            )
    total = sum(described.size for described in manifest.objects.values())
    uri = store.child(folder).uri
    return Checkpoint(
        trial, name, uri, manifest.epochs, manifest.step, total, manifest.time, manifest.metrics, manifest.seconds
    )
