"""A run in small, in this process: the parts of a run file are built and used for one batch, without Ray."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer_app import checkpoint as ckpt
from trainer_app import lightning_cli, shadowing
from trainer_app.callbacks.one_batch import OneBatch
from trainer_app.config import RunConfig, load, override
from trainer_app.errors import InputError, UserError
from trainer_app.lightning_cli import importing
from trainer_app.run import prepare, start_files, working_folder
from trainer_app.run.request import parent_folders
from trainer_app.run.require import require_parts
from trainer_app.run.spec import RunSpec
from trainer_app.training import evaluate, worker
from trainer_app.training.strategies import one_process_strategy
from trainer_app.tuning.pbt_checks import check_mutations
from trainer_app.tuning.process_state import restored_process
from trainer_app.tuning.space import draws
from trainer_app.user_errors import FitProgress, plain_errors


@dataclass
class Rehearsal:
    """What a rehearsal without an error did."""

    config: RunConfig
    device: str  # cpu or gpu
    params: dict[str, Any]  # of the trial, by dotted key; empty for a train run
    done: list[str] = field(default_factory=list)  # what was done, in words
    logged: list[str] = field(default_factory=list)  # names of metrics
    notes: list[str] = field(default_factory=list)  # what was left out, and why
    seconds: float = 0.0


def rehearse(
    files: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    task: str | None = None,
    code: str | None = None,
    remote: bool = False,
) -> Rehearsal:
    """Do in this process what a worker or trial does, with one batch: the errors are those of the run.

    Code, arguments and search space are checked; model, data and Trainer are built with the run's own callbacks,
    loggers, profiler and plugins; one batch is trained and one validated; the checkpoint is saved, loaded with
    weights_only, and restored by a second fit; the test split's first batch is tested, if the module has a `test_step`.

    It runs on one device, in a copy of the working folder, with a temporary storage. At the end both are removed and
    the process is restored; modules of the user's are imported anew the next time.

    Args:
        files, overrides: as for `config.load`.
        task: train or tune; None for tune if the run file has a block `tune`. A sweep's first trial is rehearsed.
        code: the folder of the code, which is the working folder then.
        remote: it is rehearsed for another machine, which has other files to start from.

    Raises:
        TrainerError: what the run would end with, with its exit code.
    """
    started, config = time.monotonic(), load(files, overrides)
    folders = parent_folders(files) if code is None else ()
    with restored_process(), tempfile.TemporaryDirectory(prefix="trainer-rehearsal-") as tmp:
        os.chdir(code or ".")
        shadowing.check_folders([Path.cwd(), *folders])
        with _forgotten_modules(Path.cwd(), *folders):
            lightning_cli.add_import_paths(*folders)
            rehearsal = _rehearse(config, task or ("tune" if config.tune else "train"), Path(tmp), remote=remote)
    rehearsal.seconds = time.monotonic() - started
    return rehearsal


def _rehearse(config: RunConfig, task: str, folder: Path, *, remote: bool) -> Rehearsal:
    config, notes = _without_remote_files(config) if remote else (config, [])
    require_parts(config, ["logger"])  # it runs on one device, without a strategy
    config, params = _resolve(config, task)
    gpu = bool(config.scaling.use_gpu) and torch.cuda.is_available()
    rehearsal = Rehearsal(config, "gpu" if gpu else "cpu", params, notes=notes)
    grouped = task == "train" or config.has_nested_trials
    with working_folder.in_copy(folder / "work"), evaluate.group_of_one() if grouped else nullcontext():
        _run(rehearsal, task, folder)
    return rehearsal


def _without_remote_files(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """Return the run file without the checkpoints that this machine does not have, and a note for each."""
    paths = start_files.named_files(config)
    absent = {key: path for key, path in paths.items() if not start_files.find_local(path).exists()}
    notes = [f"{key} is left out: {path} is not on this machine" for key, path in absent.items()]
    return config.model_copy(update=dict.fromkeys(absent)), notes


def _resolve(config: RunConfig, task: str) -> tuple[RunConfig, dict[str, Any]]:
    """Check and resolve a run file as a driver does; return it with a trial's parameters."""
    lightning_cli.check_code(config)
    if task == "tune" and config.tune is not None:
        lightning_cli.check_space(config)
        check_mutations(config)
    if config.scaling.use_gpu == "auto":
        asks = bool((config.scaling.resources_per_worker or {}).get("GPU"))
        config = override(config, {"scaling.use_gpu": asks or torch.cuda.is_available()})
    config, _ = prepare.resolve_choices(config)
    config = start_files.with_absolute_files(config)
    if task != "tune" or config.tune is None:
        return config, {}
    with plain_errors():  # of the user's functions that draw
        params = next(draws(config.tune.space, num_samples=1, seed=int(config.seed_everything or 0)))
    return override(config, params), params


def _run(rehearsal: Rehearsal, task: str, folder: Path) -> None:
    """Fit, restore and test, each in a process as a worker finds it."""
    config, gpu = rehearsal.config, rehearsal.device == "gpu"
    spec = RunSpec("rehearsal", str(folder / "storage"), "", use_gpu=gpu)
    cut = OneBatch(folder)
    _fit(config, spec, task, cut)
    rehearsal.logged, rehearsal.done = cut.logged, list(cut.done)
    rehearsal.notes += [f"{name} is left out: it trains many batches" for name in cut.left_out]
    commits = ckpt.list_commits(spec.fit_folder().checkpoints)
    if not commits:
        rehearsal.notes.append("nothing was trained, so no checkpoint was saved")
        return
    _fit(config, spec, task, OneBatch(folder, only_restore=True))
    rehearsal.done.append("a checkpoint saved, loaded and restored")
    if cut.has_test:
        _test(rehearsal, commits[-1], OneBatch(folder))


def _test(rehearsal: Rehearsal, commit: ckpt.Commit, cut: OneBatch) -> None:
    path, folder = ckpt.download_commit(commit, cut.folder / "test"), str(cut.folder)
    try:
        with restored_process(), evaluate.group_of_one():
            evaluate.score(
                rehearsal.config, path, commit, folder=folder, accelerator=rehearsal.device, prepare=cut.attach
            )
    except InputError as error:  # with which a run without --test does not end
        rehearsal.notes.append(str(error))
    else:
        rehearsal.done.append("tested")


def _fit(config: RunConfig, spec: RunSpec, task: str, cut: OneBatch) -> None:
    progress = FitProgress()
    trainer = {**worker.one_device(spec), "strategy": one_process_strategy(config)}
    if "default_root_dir" in config.trainer and Path(str(config.trainer["default_root_dir"])).is_absolute():
        trainer["default_root_dir"] = str(cut.folder / "elsewhere")
    try:
        with restored_process(), plain_errors(progress):
            worker.fit(
                config,
                spec.fit_folder(),
                policy=worker.policy(config, spec, task=task),
                report=lambda _: None,
                trainer_kwargs=trainer,
                prepare=cut.attach,
                progress=progress,
            )
    except UserError as error:
        if isinstance(getattr(error.__cause__, "__context__", None), KeyboardInterrupt):
            raise KeyboardInterrupt from None  # Lightning answers Ctrl-C with sys.exit
        raise


@contextmanager
def _forgotten_modules(*folders: str | Path) -> Iterator[None]:
    """Forget at the end what was imported from the user's folders, and write no byte code there."""
    modules, scripts = set(sys.modules), dict(importing.SCRIPTS)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        importing.SCRIPTS.clear()
        importing.SCRIPTS.update(scripts)
        for name in set(sys.modules) - modules:
            file = Path(getattr(sys.modules[name], "__file__", None) or os.devnull)
            users = name.partition(".")[0] != "trainer_app" and "site-packages" not in file.parts
            if users and any(file.is_relative_to(folder) for folder in folders):
                del sys.modules[name]
