"""Construct a user's LightningCLI with the run file's arguments, and stop before it runs anything.

lightning_compat.py lists the private members that are used or replaced.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli import other_lightning
from trainer_app.lightning_cli.importing import unwrap_user_error
from trainer_app.lightning_cli.instantiate import instantiate_trainer
from trainer_app.lightning_cli.parsing import parse_in_folders
from trainer_app.user_errors import describe_error

# LightningCLI.__init__ is replaced during a construction: one at a time in a process.
_LOCK = threading.RLock()
_VERBS = ("fit", "validate", "test", "predict")
# Parsed in place of an instance that overrides the run file's, so that the run file's is not instantiated.
_STAND_INS: dict[str, Any] = {"logger": False, "strategy": "auto", "plugins": None, "profiler": None}
_ALLOWED_TARGETS = "name a LightningCLI class, or a function that constructs one"
_NO_CLI = "leave cli out, and name the script's classes: model: main.Net, data: main.Data, trainer: {max_epochs: 3}"
_ARGUMENT_NAMES = ("args", "argv", "arguments", "cli_args")


class _ConstructionDone(BaseException):
    """Leaves user code once the LightningCLI would fit; no `except Exception` of the user's catches it."""


@dataclass
class Construction:
    """One construction of a LightningCLI: what it gets, and how far it is."""

    args: dict[str, Any]  # what to parse, as `LightningCLI(args=...)` takes it with `run=False`
    trainer_kwargs: Mapping[str, Any] = field(default_factory=dict)  # override the trainer block; instances are allowed
    callbacks: Sequence[Any] = ()  # added to those of the trainer block
    defaults: Mapping[str, Any] = field(default_factory=dict)  # Trainer arguments that give way to the user's
    parse_only: bool = False  # stop after parsing: nothing is instantiated and no seed is set
    cli: LightningCLI | None = None  # once it is constructed
    parsed: bool = False
    thread: int = field(default_factory=threading.get_ident)  # other threads construct their own


def construct(target: Callable[..., Any], construction: Construction) -> LightningCLI:
    """Call `target`, a LightningCLI class or anything that makes one, and return the object that it made.

    Raises:
        ConfigError: `target` requires unknown arguments or makes no LightningCLI, or its arguments don't parse.
        Exception: what user code raised while classes were instantiated, unchanged.
    """
    kwargs = _required_arguments(target, construction)
    with _LOCK, _patched_init(construction), other_lightning.without_its_cli(), suppress(_ConstructionDone):
        try:
            target(**kwargs)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            if construction.parsed and isinstance(error, Exception):
                raise unwrap_user_error(error)  # noqa: B904  it is the cause
            other_lightning.refuse_argument(error)
            raise _cli_error(f"raised {describe_error(error)} before it parsed its arguments", "") from error
        finally:
            _remove_hooks(construction.cli)
    if construction.cli is None:
        raise _cli_error("the target constructed no lightning.pytorch.cli.LightningCLI", _ALLOWED_TARGETS)
    return construction.cli


def _cli_error(message: str, hint: str) -> ConfigError:
    return ConfigError([Problem("cli", message, allowed=hint)])


def _required_arguments(target: Callable[..., Any], construction: Construction) -> dict[str, Any]:
    """Return the run file's arguments for a target that requires some, if it names them as LightningCLI does."""
    if not callable(target):
        raise _cli_error(f"a {type(target).__name__} can't be called", _ALLOWED_TARGETS)
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(target).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in free]
    unknown = [name for name in needed if name not in _ARGUMENT_NAMES]
    if unknown:
        hint = "wrap it in a function that takes none, or in functools.partial"
        raise _cli_error(f"the target has required arguments: {', '.join(unknown)}", hint)
    return {name: copy.deepcopy(construction.args) for name in needed}


@contextmanager
def _patched_init(construction: Construction) -> Iterator[None]:
    original = LightningCLI.__init__

    @functools.wraps(original)
    def init(self: LightningCLI, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != construction.thread:
            original(self, *args, **kwargs)
            return
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        _override_init(bound.arguments, self, construction)
        original(*bound.args, **bound.kwargs)
        for verb in _VERBS:
            setattr(self.trainer, verb, functools.partial(_end_at_verb, self, verb))

    fit = Trainer.fit
    LightningCLI.__init__, Trainer.fit = init, _refusing_other_trainers(fit, construction)
    try:
        yield
    finally:
        LightningCLI.__init__, Trainer.fit = original, fit


def _refusing_other_trainers(fit: Callable[..., Any], construction: Construction) -> Callable[..., Any]:
    """Refuse the fit of a script that makes no LightningCLI: it would train whole, and as nobody's run."""

    @functools.wraps(fit)  # a parser reads its signature
    def refusing(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if construction.cli is None and threading.get_ident() == construction.thread:
            raise _cli_error("it fits with a Trainer of its own, and has made no LightningCLI", _NO_CLI)
        return fit(trainer, *args, **kwargs)

    return refusing


def _end_at_subcommand(cli: LightningCLI, subcommand: str) -> NoReturn:
    """End the user's code where a LightningCLI with `run=True` would fit."""
    before = getattr(cli, f"before_{subcommand}", None)
    if callable(before):
        before()
    raise _ConstructionDone


def _end_at_verb(cli: LightningCLI, verb: str, *args: Any, **kwargs: Any) -> Any:
    """End the user's code where it uses the Trainer that `run=False` left to it. What it fits is what the run fits."""
    if any(getattr(callback, "_early_exit", False) for callback in cli.trainer.callbacks):  # a Tuner's short fit
        return getattr(type(cli.trainer), verb)(cli.trainer, *args, **kwargs)
    if verb == "fit":
        given = inspect.signature(Trainer.fit).bind(None, *args, **kwargs).arguments
        if given.get("ckpt_path") is not None:
            message = f"it calls trainer.fit with ckpt_path={given['ckpt_path']!r}"
            raise _cli_error(message, "write ckpt_path in the run file instead")
        cli.model = given["model"]
        other_lightning.refuse(type(cli.model))
        cli.datamodule = given.get("datamodule") or _data_module(
            given.get("train_dataloaders"), given.get("val_dataloaders")
        )
    raise _ConstructionDone


def _data_module(train: Any, val: Any) -> LightningDataModule | None:
    """Return a data module of the loaders that were passed to `Trainer.fit`."""
    if train is None or isinstance(train, LightningDataModule):
        return train
    made = LightningDataModule()
    made.train_dataloader = lambda: train
    if val is not None:
        made.val_dataloader = lambda: val
    return made


def _override_init(arguments: dict[str, Any], cli: LightningCLI, construction: Construction) -> None:
    """Change what user code passed to LightningCLI.__init__, and hook this one object."""
    if construction.cli is not None:
        raise _cli_error("the target constructs more than one LightningCLI", _ALLOWED_TARGETS)
    construction.cli = cli
    runs = arguments.get("run", True)
    if arguments.get("save_config_callback") in (None, SaveConfigCallback):  # run.yaml has what it would save
        arguments["save_config_callback"] = None
    defaults = arguments["trainer_defaults"] = dict(arguments.get("trainer_defaults") or {})
    if "callbacks" in defaults:  # uncopied they would carry a trial's state (patience, best score) to the next
        defaults["callbacks"] = copy.deepcopy(defaults["callbacks"])
    # A CLI meant to run `fit` keeps its subcommand: its hooks and its default files may read self.config.fit. It only
    # runs nothing. Without a subcommand the object is what run=False makes.
    arguments["args"] = {"subcommand": "fit", "fit": construction.args} if runs else construction.args
    if runs:
        cli._run_subcommand = functools.partial(_end_at_subcommand, cli)
    cli.init_parser = functools.partial(_init_parser, cli, cli.init_parser, runs=runs)
    cli.parse_arguments = functools.partial(_parse_arguments, construction, cli)
    cli._instantiate_trainer = functools.partial(
        instantiate_trainer,
        cli,
        overrides={**construction.trainer_kwargs},
        defaults=construction.defaults,
        added=construction.callbacks,
    )


def _init_parser(
    cli: LightningCLI, make: Callable[..., LightningArgumentParser], *, runs: bool, **kwargs: Any
) -> LightningArgumentParser:
    """Make a parser as the user's CLI makes it. The first is the main one: then its subcommands are known."""
    parser = make(**kwargs)
    parser.exit_on_error = False
    if runs and "subcommands" not in vars(cli):
        known = cli.subcommands()
        if "fit" not in known:
            raise _cli_error(f"its subcommands() have no fit, only {', '.join(known)}", "add fit to them")
        # One parser of four: 45 ms instead of 130 ms. Default files and variables may have blocks for the others.
        shown = known if parser.default_config_files or parser.default_env else {"fit": known["fit"]}
        cli.subcommands = lambda: shown
    return parser


def _parse_arguments(
    construction: Construction, cli: LightningCLI, parser: LightningArgumentParser, args: dict[str, Any]
) -> None:
    flat = cli._subcommand_parsers["fit"] if "subcommand" in args else parser
    _replace_instances(flat, construction)
    parse_in_folders(cli, parser, flat, args, construction.args)
    construction.parsed = True
    if construction.parse_only:
        raise _ConstructionDone


def _replace_instances(parser: ArgumentParser, construction: Construction) -> None:
    """Write the overrides into the trainer block: plain values, which links may read, and stand-ins for instances."""
    known = {action.dest for action in parser._actions}
    trainer = dict(construction.args.get("trainer") or {})
    for key, value in construction.trainer_kwargs.items():
        if key == "callbacks" or f"trainer.{key}" not in known:
            continue
        if value is None or isinstance(value, str | int | float):
            trainer[key] = value
        elif key in _STAND_INS:
            trainer[key] = _STAND_INS[key]
        else:
            trainer.pop(key, None)
    if trainer:
        construction.args["trainer"] = trainer


def _remove_hooks(cli: LightningCLI | None) -> None:
    """Remove the hooks from the objects: from here on they are the user's."""
    if cli is None:
        return
    for name in ("init_parser", "parse_arguments", "_instantiate_trainer", "_run_subcommand", "subcommands"):
        cli.__dict__.pop(name, None)
    for verb in _VERBS:
        getattr(getattr(cli, "trainer", None), "__dict__", {}).pop(verb, None)
