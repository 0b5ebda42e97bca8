"""Score a run's best checkpoint on the test split, loading it afresh from storage."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli
from trainer_app.callbacks.ranks import mean_over_ranks
from trainer_app.checkpoint.loading import allow_globals, check_loadable
from trainer_app.config import RunConfig
from trainer_app.errors import InputError
from trainer_app.formatting import one_line
from trainer_app.records import RunFolder
from trainer_app.run import cluster, user_code, working_folder
from trainer_app.run.believed import allow_override, load_stored
from trainer_app.run.spec import RunSpec
from trainer_app.storage import Store, open_store
from trainer_app.temporary import temporary_folder
from trainer_app.training import loggers
from trainer_app.training.chosen import choose
from trainer_app.training.failures import root_cause
from trainer_app.training.files import TESTED, keep_files
from trainer_app.training.strategies import one_process_strategy, prepare_load
from trainer_app.training.worker import QUIET, check_device
from trainer_app.user_errors import FitProgress, plain_errors


def test(
    store: Store, run: str, *, allow: Sequence[str] = (), trial: str | None = None, epoch: int | None = None
) -> dict[str, Any]:
    """Score the best checkpoint, or another: in a Ray task with a GPU if the run trained on GPUs, else in this process.

    The driver's own CUDA is not asked: on a cluster it says nothing about the workers'.

    Args:
        allow: classes that the checkpoint may hold; what the storage says of that does not count.
        trial, epoch: as `chosen.choose`.

    Returns:
        the event `test`: {"event", "checkpoint", "trial", "metrics"}.

    Raises:
        NotFoundError: no checkpoint is committed.
        CheckpointRejectedError: it does not match its manifest.
        InputError: the module or the data has no test.
    """
    folder, which = RunFolder.open(store, run), Which(tuple(allow), trial, epoch)
    if not folder.record.use_gpu:
        return test_here(store, run, accelerator="cpu", which=which)
    with cluster.connected():
        if not cluster.has_gpus(1):  # a run of a cluster, tested on a laptop
            return test_here(store, run, accelerator="cpu", which=which)
        kind = load_stored(
            folder.read_config(), uri=folder.uri, overrides=allow_override(allow)
        ).scaling.accelerator_type
        more = {"accelerator_type": kind} if kind else {}
        return test_in_task(store, run, accelerator="gpu", which=which, num_cpus=1, num_gpus=1, **more)


@dataclass(frozen=True)
class Which:
    """Which checkpoint is tested, as `chosen.choose` takes it; by default the best."""

    allow: tuple[str, ...] = ()
    trial: str | None = None
    epoch: int | None = None


BEST: Final = Which()


def test_in_task(store: Store, run: str, *, accelerator: str, which: Which = BEST, **options: Any) -> dict[str, Any]:
    """Run `test_here` in a task on the connected Ray.

    Args:
        which: the checkpoint.
        options: Ray's, of the task, such as num_gpus.

    Raises:
        TrainerError: what `test_here` raised in the task.
    """
    import ray

    task = ray.remote(max_retries=0, **options)(_task)
    try:
        event: dict[str, Any] = ray.get(task.remote(store.uri, run, accelerator, which))
    except ray.exceptions.RayTaskError as error:
        raise root_cause(error) from error
    return event


def _task(uri: str, run: str, accelerator: str, which: Which) -> dict[str, Any]:
    check_device(RunSpec(run=run, uri=uri, config="", use_gpu=accelerator == "gpu"))
    return test_here(open_store(uri), run, accelerator=accelerator, which=which)


def test_here(store: Store, run: str, *, accelerator: str, which: Which = BEST) -> dict[str, Any]:
    """Download and verify the checkpoint, build its model and data again, and test in this process.

    Args:
        accelerator: "cpu" or "gpu".
        which: the checkpoint.

    Returns:
        the event `test`.

    Raises:
        NotFoundError, CheckpointRejectedError, InputError: as `test`.
    """
    chosen = choose(store, run, **asdict(which))
    trial = chosen.checkpoint.trial
    spec, progress = _test_spec(chosen.folder, store), FitProgress()
    commit = chosen.commit
    with temporary_folder("test") as tmp, group_of_one():
        path = ckpt.download_commit(commit, Path(tmp))
        with keep_files(chosen.config, spec, trial, progress, part=TESTED):
            # what it logs goes to the runs that the fit made
            config, _ = loggers.name_runs(chosen.config, chosen.folder.fit_folder(trial), (run, trial))
            note_trainer = functools.partial(setattr, progress, "trainer")
            metrics = score(config, path, commit, accelerator=accelerator, prepare=note_trainer)
    return {"event": "test", "checkpoint": chosen.checkpoint.uri, "trial": trial, "metrics": metrics}


def _test_spec(folder: RunFolder, store: Store) -> RunSpec:
    """Return the run as a test needs it: where it works, and where what it writes is kept."""
    return RunSpec(
        run=folder.name,
        uri=store.uri,
        config="",
        use_gpu=False,
        code=os.environ.get(user_code.CODE, ""),
        folder=str(working_folder.user_folder()),
        in_place=folder.record.task == "train" and cluster.is_local(),
        started=time.time(),
    )


@contextmanager
def group_of_one() -> Iterator[None]:
    """Make a process group of this process, as a worker has one: a module or a sampler may ask for it."""
    if torch.distributed.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def score(
    config: RunConfig,
    path: Path,
    commit: ckpt.Commit,
    *,
    accelerator: str,
    folder: str | None = None,
    prepare: Callable[[Any], Any] = lambda trainer: None,
) -> dict[str, float]:
    """Run `Trainer.test` with one checkpoint, on one device.

    Args:
        path: the downloaded checkpoint.
        commit: what it was downloaded from.
        accelerator: "cpu" or "gpu".
        folder: for what Lightning writes, None for its own default.
        prepare: called with the Trainer before it tests.

    Raises:
        InputError: the module or the data has no test.
    """
    kwargs = {"devices": 1, "num_nodes": 1, "strategy": one_process_strategy(config), "accelerator": accelerator}
    defaults = {**QUIET, **({"default_root_dir": folder} if folder else {})}
    with plain_errors():
        parts = lightning_cli.build_parts(config, trainer_kwargs=kwargs, defaults=defaults)
    prepare(parts.trainer)
    try:
        check_loadable(path, config.checkpoint.allow)  # after the build: the user's enums are known only now
        passing = plain_errors(let_pass=MisconfigurationException)
        with allow_globals(config.checkpoint.allow), passing, loggers.ended_runs(parts.trainer):
            source = prepare_load(parts.trainer, commit, path)
            parts.trainer.test(
                parts.model, datamodule=parts.datamodule, ckpt_path=source, weights_only=True, verbose=False
            )
    except MisconfigurationException as e:
        raise InputError(f"this run can't be tested: {one_line(e)}") from e
    if not sum(parts.trainer.num_test_batches):
        raise InputError("this run can't be tested: its test_dataloader has no batch")
    return mean_over_ranks(parts.trainer.callback_metrics)
