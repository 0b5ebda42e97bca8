"""The block `find`: Lightning's Tuner searches on one worker's device before the first epoch of a train run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from lightning.pytorch.tuner import Tuner

from trainer_app import lightning_cli
from trainer_app.config import RunConfig, dump, override
from trainer_app.config.find import FindBatchSize, FindLr
from trainer_app.errors import TrainerError
from trainer_app.records import RunFolder
from trainer_app.run.spec import RunSpec
from trainer_app.run.start_files import with_absolute_files
from trainer_app.run.watch import Emit
from trainer_app.temporary import temporary_folder
from trainer_app.training import evaluate, worker
from trainer_app.training.failures import root_cause
from trainer_app.training.files import keep_files
from trainer_app.training.ray_trainer import accelerator
from trainer_app.user_errors import FitProgress, plain_errors

FOUND = "found"  # among the run's artifacts: what a search wrote


def check_keys(config: RunConfig) -> None:
    """Check that the code has the keys that are to be found, before the search.

    Raises:
        ConfigError: it does not take one of them.
    """
    if config.find is not None:
        one = {FindBatchSize: 1, FindLr: 0.001}
        asked = [each for each in (config.find.batch_size, config.find.lr) if each is not None]
        lightning_cli.check_code(override(config, {each.key: one[type(each)] for each in asked}))


def find_values(config: RunConfig, folder: RunFolder, spec: RunSpec, emit: Emit) -> tuple[RunConfig, RunSpec]:
    """Search, unless an earlier attempt has; record what was found, and return the run file and the spec with it.

    Args:
        folder: the run's, opened for this attempt.
        spec: what the workers would get.
        emit: takes the event `found`.

    Raises:
        TrainerError: a search found nothing. UserError: the user's code raised.
    """
    if config.find is None or set(config.find.keys) <= folder.record.resolved.keys():
        return config, spec
    values = _search_in_task(config, spec)
    if values:
        folder.update(resolved={**folder.record.resolved, **values})
        config = override(config, values)
        folder.write_config(dump(config))
        emit({"event": FOUND, **values})
    return config, replace(spec, config=dump(with_absolute_files(config)))


def _search_in_task(config: RunConfig, spec: RunSpec) -> dict[str, Any]:
    """Search on the resources of one worker."""
    resources = {**config.scaling.worker_resources, **accelerator(config)}
    cpus, gpus = resources.pop("CPU"), resources.pop("GPU", 0)
    retries = config.failure.max_failures
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, resources=resources, max_retries=retries)(_task)
    try:
        values: dict[str, Any] = ray.get(task.remote(spec))
    except ray.exceptions.RayTaskError as error:
        raise root_cause(error) from error
    except ray.exceptions.RayError as error:
        raise TrainerError(f"find: the search was lost: {' '.join(str(error).split())[:300]}") from error
    return values


def _task(spec: RunSpec) -> dict[str, Any]:
    worker.check_device(spec)
    config, progress = spec.load(), FitProgress()
    kept = keep_files(config, spec, None, progress, part=FOUND)
    with evaluate.group_of_one(), temporary_folder("find") as tmp, plain_errors(progress), kept:
        return search(config, spec, Path(tmp))


def search(config: RunConfig, spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Return what is found on this process's device, by dotted key; nothing in a fast_dev_run.

    Args:
        folder: a temporary one, for the state that the Tuner comes back to.

    Raises:
        TrainerError: the losses suggest no learning rate.
    """
    if config.find is None or config.trainer.get("fast_dev_run"):
        return {}
    kwargs = {**worker.one_device(spec), "default_root_dir": str(folder)}
    parts = lightning_cli.build_parts(config, trainer_kwargs=kwargs, defaults=worker.QUIET)
    tuner, values = Tuner(parts.trainer), {}
    size, rate = config.find.batch_size, config.find.lr
    if size is not None:
        name, arguments = size.key.rpartition(".")[2], size.model_dump(exclude={"key"})
        values[size.key] = tuner.scale_batch_size(
            parts.model, datamodule=parts.datamodule, batch_arg_name=name, **arguments
        )
    if rate is not None:
        arguments = rate.model_dump(exclude={"key"})
        finder = tuner.lr_find(parts.model, datamodule=parts.datamodule, update_attr=False, **arguments)
        values[rate.key] = _suggestion(finder)
    return values


def _suggestion(finder: Any) -> float:
    suggestion: float | None = finder.suggestion()
    if suggestion is None:
        tried = f"find.lr: the losses of {len(finder.results['loss'])} rates suggest none"
        advice = "change min_lr, max_lr or num_training; a search ends with trainer.max_epochs"
        raise TrainerError(f"{tried}; {advice}")
    return suggestion
