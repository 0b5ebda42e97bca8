"""`trainer validate`: what a run file says, and every problem in it, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.formatting import one_line
from trainer_app.run.request import parent_folders, split_items
from trainer_app.run.require import is_installed, require, require_parts

if TYPE_CHECKING:
    from trainer_app.config import RunConfig

Items = Annotated[
    list[str], typer.Argument(metavar="FILE... [KEY=VALUE...]", help="Run files, merged in order, and overrides.")
]
Deep = Annotated[
    bool, typer.Option("--deep", help="Import the code, check init_args, make callbacks, loggers and plugins.")
]
Run = Annotated[bool, typer.Option("--run", help="Build all of it, and train, validate, save and test one batch here.")]


def validate(items: Items, deep: Deep = False, run: Run = False) -> int:
    """Check a run file; start nothing. Exit code 2 with a line for each problem; with --run, that of the run."""
    files, overrides = split_items(items)
    for line in report(files, overrides, deep=deep, run=run):
        print(line)
    return 0


def report(files: Sequence[str], overrides: Sequence[str] = (), *, deep: bool = False, run: bool = False) -> list[str]:
    """Return the lines that `trainer validate` prints for files without a problem.

    Args:
        overrides: KEY=VALUE, over the files.
        deep: import the code, check `init_args` against its signatures, and make the parts of the Trainer.
        run: rehearse the run, see `trainer_app.rehearsal`.

    Raises:
        ConfigError: all problems of the files; with `deep` and if there are none, all problems of the code.
        TrainerError: with `run`, what the run would end with.
    """
    from trainer_app.config import load

    config = load(files, overrides)
    if is_installed("lightning"):  # else runs are only submitted from here
        require_parts(config, ["logger"])  # deepspeed runs where there are GPUs
    done = _check_code(config, files) if deep else []
    epochs = _epochs(config, known=config.cli is None)
    if run:
        from trainer_app.cli.rehearse import describe, rehearse

        rehearsal = rehearse(files, overrides, option="--run")
        done += describe(rehearsal)
        epochs = _epochs(rehearsal.config, known=True)
    elif deep:
        epochs = _epochs(_with_limits(config), known=True)
    code = "and so is the code that it names" if deep or run else "but its code was not checked (--deep does that)"
    head = f"{' + '.join(files)}: ok, {code}"
    return [one_line(head), *(f"  {one_line(line)}" for line in (*_summary(config, epochs), *done))]


def _check_code(config: RunConfig, files: Sequence[str]) -> list[str]:
    """Return a line for each part that can't be made on this machine."""
    from trainer_app import shadowing

    require("lightning", what="--deep")
    from trainer_app.lightning_cli import add_import_paths, check_code, check_parts, check_space

    shadowing.check_folders([Path.cwd(), *parent_folders(files)])
    add_import_paths(*parent_folders(files))
    check_code(config)
    check_space(config)
    if config.tune is not None and config.tune.scheduler.kind == "pbt":  # else there is no need to import Ray
        from trainer_app.tuning.pbt_checks import check_mutations

        check_mutations(config)
    return [f"note: {note}" for note in check_parts(config)]


def _with_limits(config: RunConfig) -> RunConfig:
    """Return the run file with the limits that its `cli` sets by itself."""
    from trainer_app.config import override
    from trainer_app.lightning_cli import default_limits

    return override(config, default_limits(config))


def _epochs(config: RunConfig, *, known: bool) -> str:
    """Return the length of the run in words; unless it is `known`, a `cli` may set what the file leaves open."""
    limits = ("max_epochs", "max_steps", "max_time", "fast_dev_run")
    if not known and all(config.trainer.get(key) is None for key in limits):
        return f"epochs as the LightningCLI sets, else {config.max_epochs}"
    return "no limit of epochs" if config.max_epochs == -1 else _count(config.max_epochs, "epoch")


def _summary(config: RunConfig, epochs: str) -> Iterator[str]:
    for name in ("model", "data"):
        block = getattr(config, name)
        if block is not None:
            yield f"{name}: {block.get('class_path', f'of {config.cli}')}"
    yield f"train: {epochs}, {_workers(config.scaling.num_workers, config.scaling.use_gpu)}"
    tune = config.tune
    if tune is not None:
        trials = _count(tune.num_trials, "trial") if tune.num_trials else f"{tune.time_budget_s:g} s of trials"
        what = _count(len(tune.space), "parameter")
        yield f"tune: {trials} of {what}, {tune.mode} {tune.metric}, {tune.scheduler.kind}, {tune.searcher.kind}"
    yield f"storage: {config.storage.uri}"
    for note in config.notes:
        yield f"note: {note}"


def _workers(number: int, use_gpu: bool | str) -> str:
    many = number > 1
    gpu = {
        True: " with a GPU each" if many else " with a GPU",
        False: " on CPU",
        "auto": ", one GPU each if there are GPUs" if many else ", with a GPU if there is one",
    }[use_gpu]
    return f"{_count(number, 'worker')}{gpu}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
