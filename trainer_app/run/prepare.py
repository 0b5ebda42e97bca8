"""What is chosen once for a run, before it starts: seed, data, devices; and whether a resumed run is the same run."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from trainer_app.checkpoint import newest_commit
from trainer_app.config import RunConfig, dump, loads, override, searched_keys
from trainer_app.errors import AlreadyExistsError, InputError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import believed, cluster, cut_short, ends, identity, lease
from trainer_app.run.spec import RunSpec
from trainer_app.run.start_files import check_start_files, with_absolute_files
from trainer_app.run.user_code import CODE
from trainer_app.run.working_folder import user_folder
from trainer_app.storage import Store

# What a resumed run may have changed: how long and how hard to try, never what is trained.
MAY_CHANGE = (
    *("name", "storage", "failure", "checkpoint", "scaling", "weights_only"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time"),
    *("tune.num_samples", "tune.time_budget_s", "tune.max_concurrent_trials", "tune.resources_per_trial"),
)
VERSIONS = ("trainer-app", "ray", "torch", "lightning", "torchvision", "torchmetrics")


def resolve_choices(config: RunConfig) -> tuple[RunConfig, dict[str, Any]]:
    """Settle the seed, choose the data and the devices; take the Trainer's limits from a `cli` that sets them itself.

    Returns:
        the resolved run file, and what was chosen as {dotted key: value}.

    Raises:
        ConfigError: a file that the run file names is not there.
    """
    from trainer_app import lightning_cli

    check_start_files(config)
    chosen = lightning_cli.default_limits(config)
    seed = lightning_cli.default_seed(config) if config.seed_everything is None else config.seed_everything
    if seed is True:
        seed = lightning_cli.seed_of_true()
    if seed != config.seed_everything or isinstance(config.seed_everything, bool) != isinstance(seed, bool):
        chosen["seed_everything"] = seed
    if config.scaling.use_gpu == "auto":
        each = (config.scaling.resources_per_worker or {}).get("GPU") or 1
        chosen["scaling.use_gpu"] = cluster.has_gpus(config.scaling.num_workers * each)
    with collect_warnings("trainer_app.examples") as warnings:
        resolved = lightning_cli.resolve_init_args(override(config, chosen))
    resolved = resolved.with_notes([*config.notes, *warnings])
    for key, value in flatten(resolved).items():
        if flatten(config).get(key) != value:
            chosen[key] = value
    return resolved, chosen


@contextmanager
def collect_warnings(name: str) -> Iterator[list[str]]:
    """Collect the warnings of a logger and those below it, to be shown to the user with the run's notes."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Collect(logging.WARNING), logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def check_name_free(store: Store, name: str, *, task: str) -> None:
    """Refuse a name that another run has, before anything is resolved for this one.

    Args:
        store: the storage.
        task: train or tune, for the message.

    Raises:
        AlreadyExistsError: with the command that resumes that run.
    """
    store.list_folders(name)  # fails if the bucket is missing, which a look for one object does not say
    if cut_short.is_taken(store.child(name)):
        advice = f"give another --name, or resume it: trainer {task} --resume {name}"
        raise AlreadyExistsError(f"run {name} exists in {store.uri}: {advice}")


def create_run(store: Store, config: RunConfig, chosen: Mapping[str, Any], *, name: str, task: str) -> RunFolder:
    """Create a run in storage.

    Args:
        config: the resolved run file.
        chosen: what was chosen for it, by dotted key; kept in the record.

    Raises:
        AlreadyExistsError: there is a run of that name.
    """
    tune = config.tune if task == "tune" else None
    metric, mode = config.selection_metric(task)
    now, submission = time.time(), identity.current_submission()
    seed = None if isinstance(config.seed_everything, bool) else config.seed_everything
    record = RunRecord(
        name=name,
        task=task,
        state="running",
        created=now,
        updated=now,
        tags=config.tags,
        seed=seed,
        metric=metric,
        mode=mode,
        use_gpu=bool(config.scaling.use_gpu),
        versions={name: version(name) for name in VERSIONS},
        resolved=dict(chosen),
        folders=cluster.run_folders(),
        epochs=target_epochs(config),
        num_samples=tune.num_trials if tune else None,
        submission=submission,
        queued=ends.queued_since(store.child(name), submission),
    )
    return RunFolder.create(store, record, dump(config))


def reopen_run(store: Store, config: RunConfig, *, name: str, task: str) -> tuple[RunFolder, RunConfig]:
    """Return a run's folder and the run file to resume with: the stored one, with what may change from `config`.

    Args:
        config: the run file of this attempt.
        task: train or tune, which must be the run's.

    Raises:
        InputError: the task differs, or the run file describes another run; each key is named.
        NotFoundError: there is no such run.
    """
    folder = RunFolder.open(store, name)
    record = folder.record
    if record.task != task:
        raise InputError(f"run {name} is a {record.task} run; resume it with: trainer {record.task} --resume {name}")
    # what was chosen for the run stays, unless the run file asks for something else now
    asked, choices = flatten(config), believed.stored_choices(record.resolved)
    kept = {k: v for k, v in choices.items() if _leaves_open(config, asked, k) and k != "scaling.use_gpu"}
    config = override(config, kept)
    before = loads(folder.read_config(), file=f"{name}/run.yaml")
    _check_same_run(folder, before, config)
    if task == "train":
        _check_schedules(folder, before, config)
    if config.scaling.use_gpu == "auto":
        config = override(config, {"scaling.use_gpu": record.use_gpu})
    return folder, config


def _check_same_run(folder: RunFolder, stored: RunConfig, config: RunConfig) -> None:
    """Raise InputError if `config` differs from the stored run file in more than what may change."""
    before, now = flatten(stored), flatten(config)
    free = searched_keys(config.find)  # the driver may have ended between two writes of what was found
    changed = [k for k in sorted({*before, *now} - {*free}) if before.get(k) != now.get(k) and not may_change(k)]
    if changed:
        shown = "; ".join(f"{k}: {before.get(k)!r} in the run, {now.get(k)!r} now" for k in changed[:5])
        what = f"run {folder.name} was started with another run file ({shown})"
        raise InputError(f"{what}; start a new run, or resume without FILE")


def _check_schedules(folder: RunFolder, stored: RunConfig, config: RunConfig) -> None:
    """Raise InputError if the run is to go on for longer than a schedule in its newest commit was made for."""
    if all(stored.trainer.get(end) == config.trainer.get(end) for end in ("max_epochs", "max_steps")):
        return
    commit = newest_commit(folder.fit_folder().checkpoints)
    newest, steps = commit.manifest if commit else None, config.trainer.get("max_steps")
    if commit is None or newest is None or newest.epochs < 1 or newest.step < 1:
        return
    ends = {"trainer.max_epochs": (config.max_epochs, newest.epochs), "trainer.max_steps": (steps, newest.step)}
    times = {key: end / done for key, (end, done) in ends.items() if isinstance(end, int) and end > 0}
    for schedule in newest.schedules if times else ():
        key = min(times, key=lambda k: times[k])
        needed = math.ceil(schedule.done * times[key])
        if needed > schedule.total:
            raise InputError(
                f"run {folder.name}: its {schedule.name} was made for {schedule.total} steps, {key}={ends[key][0]} "
                f"takes {needed}, and a resumed run keeps its schedule; start a new run from its weights: "
                f"trainer train FILE {key}={ends[key][0]} weights={commit.uri}"
            )


def _leaves_open(config: RunConfig, asked: Mapping[str, Any], key: str) -> bool:
    """Return whether a run file leaves this key to the run; a seed of 1 is not True, though 1 == True."""
    return asked.get(key) in (None, "auto") or asked[key] is True or key in searched_keys(config.find)


def may_change(key: str) -> bool:
    """Return whether a resumed run may have another value of this dotted key."""
    return any(key == allowed or key.startswith(allowed + ".") for allowed in MAY_CHANGE)


def flatten(config: RunConfig) -> dict[str, Any]:
    """Return {dotted key: leaf} of the run file; lists are leaves."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for k, v in value.items():
                walk(f"{prefix}.{k}" if prefix else str(k), v)
        elif value is not None:
            flat[prefix] = value

    walk("", config.tree)
    return flat


def target_epochs(config: RunConfig) -> int | None:
    """Return how many epochs a fit runs; None if it ends by steps or time."""
    return config.max_epochs if config.max_epochs >= 0 else None


def run_spec(folder: RunFolder, store: Store, config: RunConfig) -> RunSpec:
    """Return what the worker processes of this attempt get.

    Args:
        folder, store: the run's, and the storage.
        config: the resolved run file.
    """
    return RunSpec(
        run=folder.record.name,
        uri=store.uri,
        config=dump(with_absolute_files(config)),
        use_gpu=bool(config.scaling.use_gpu),
        versions=folder.record.versions,
        code=os.environ.get(CODE, ""),
        storage_timeout_s=config.failure.storage_timeout_s,
        driver=lease.token(folder.run_store),
        folder=str(user_folder()),
        in_place=folder.record.task == "train" and cluster.is_local(),
        started=time.time(),
    )
