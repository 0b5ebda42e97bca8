"""Makes a LightningCLI, whoever constructs it, take our arguments and stop before it runs anything."""

from __future__ import annotations

import argparse
import copy
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from trainer_app.errors import ConfigError, Problem
from trainer_app.lightning_cli.explain import explain
from trainer_app.lightning_cli.importing import described, users_own

# LightningCLI.__init__ is swapped for the length of one construction: one at a time in a process.
_LOCK = threading.RLock()
_VERBS = ("fit", "validate", "test", "predict")
# What stands in for an instance of ours while the block is parsed, so that the run file's own is not instantiated.
_NEUTRAL: dict[str, Any] = {"logger": False, "strategy": "auto", "plugins": None, "profiler": None}
_NAME_ONE = "name a LightningCLI class, or a function that constructs one"
_ARGS = ("args", "argv", "arguments", "cli_args")


class _Stop(BaseException):
    """Unwinds user code once the LightningCLI is there; no `except Exception` on the way holds it."""


@dataclass
class Plan:
    """One construction of a LightningCLI.

    Args:
        args: the mapping to parse, as `LightningCLI(args=...)` takes it with `run=False`.
        trainer_kwargs: override the parsed trainer block; instances are fine.
        callbacks: added to those of the trainer block.
        parse_only: stop after parsing: nothing is instantiated and no seed is set.
    """

    args: dict[str, Any]
    trainer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Sequence[Any] = ()
    parse_only: bool = False
    cli: LightningCLI | None = None
    parsed: bool = False
    thread: int = field(default_factory=threading.get_ident)


def construct(target: Callable[..., Any], plan: Plan) -> LightningCLI:
    """Calls `target`, a LightningCLI class or anything that makes one, and returns the object that it made.

    Raises:
        ConfigError: it takes arguments that we don't know, makes no LightningCLI, or its arguments don't parse.
        Exception: what user code raised while classes were instantiated, as it is.
    """
    kwargs = _call_kwargs(target, plan)
    with _LOCK, _steered(plan):
        try:
            target(**kwargs)
        except (_Stop, ConfigError) as error:
            if isinstance(error, ConfigError):
                raise
        except (Exception, SystemExit) as error:
            if plan.parsed and isinstance(error, Exception):
                raise users_own(error)  # noqa: B904  it is the cause
            raise _refused(f"raised {described(error)} before it parsed its arguments", "") from error
        finally:
            _release(plan.cli)
    if plan.cli is None:
        raise _refused("the target constructed no lightning.pytorch.cli.LightningCLI", _NAME_ONE)
    return plan.cli


def _refused(message: str, hint: str) -> ConfigError:
    return ConfigError([Problem("cli", message, allowed=hint)])


def _call_kwargs(target: Callable[..., Any], plan: Plan) -> dict[str, Any]:
    """Arguments for a target that insists on some: ours, where it names them as LightningCLI does."""
    if not callable(target):
        raise _refused(f"a {type(target).__name__} can't be called", _NAME_ONE)
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(target).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in free]
    unknown = [name for name in needed if name not in _ARGS]
    if unknown:
        hint = "wrap it in a function that takes none, or in functools.partial"
        raise _refused(f"the target has required arguments: {', '.join(unknown)}", hint)
    return {name: copy.deepcopy(plan.args) for name in needed}


@contextmanager
def _steered(plan: Plan) -> Iterator[None]:
    original = LightningCLI.__init__

    @functools.wraps(original)
    def init(self: LightningCLI, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != plan.thread:
            original(self, *args, **kwargs)
            return
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        _force(bound.arguments, self, plan)
        original(*bound.args, **bound.kwargs)
        for verb in _VERBS:
            setattr(self.trainer, verb, _stop)

    other = getattr(sys.modules.get("pytorch_lightning.cli"), "LightningCLI", None)
    other_init = other and other.__init__
    LightningCLI.__init__ = init
    try:
        if other:
            other.__init__ = _refuse_other
        yield
    finally:
        LightningCLI.__init__ = original
        if other:
            other.__init__ = other_init


def _stop(*_: Any, **__: Any) -> NoReturn:
    raise _Stop


def _refuse_other(*_: Any, **__: Any) -> NoReturn:
    change = "import it from lightning.pytorch.cli instead of pytorch_lightning.cli"
    raise _refused("this LightningCLI is pytorch_lightning's, another package than lightning", change)


def _force(arguments: dict[str, Any], cli: LightningCLI, plan: Plan) -> None:
    """Changes what user code passed to LightningCLI.__init__, and hooks this one object."""
    if plan.cli is not None:
        raise _refused("the target constructs more than one LightningCLI", _NAME_ONE)
    plan.cli = cli
    runs = arguments.get("run", True)
    parser_kwargs = dict(arguments.get("parser_kwargs") or {})
    arguments["save_config_callback"] = None
    arguments["trainer_defaults"] = _fresh(arguments.get("trainer_defaults") or {})
    # A CLI meant to run `fit` keeps its sub-command: its hooks may read self.config.fit, and so may its default files.
    # Only the running is taken out. Without a sub-command the object is what run=False makes.
    arguments["args"] = {"subcommand": "fit", "fit": plan.args} if runs else plan.args
    if runs:
        fit = {**parser_kwargs.get("fit", {}), "exit_on_error": False}
        parser_kwargs["fit"] = fit
        cli._run_subcommand = lambda subcommand: None
        if "default_config_files" not in parser_kwargs:  # one parser of four: 45 ms instead of 130 ms
            known = type(cli).subcommands()
            cli.subcommands = lambda: {"fit": known["fit"]}
    arguments["parser_kwargs"] = {**parser_kwargs, "exit_on_error": False}
    cli.parse_arguments = functools.partial(_parse, plan, cli)
    cli._instantiate_trainer = functools.partial(_trainer, plan, cli)


def _fresh(defaults: dict[str, Any]) -> dict[str, Any]:
    """Callbacks in a module's `trainer_defaults` would carry one trial's state (patience, best score) to the next."""
    return {key: copy.deepcopy(value) if key == "callbacks" else value for key, value in defaults.items()}


def _parse(plan: Plan, cli: LightningCLI, parser: LightningArgumentParser, args: dict[str, Any]) -> None:
    flat = parser
    if "subcommand" in args:
        flat = cli._subcommand_parsers["fit"]
    _neutralise(flat, plan)
    try:
        if type(cli).parse_arguments is LightningCLI.parse_arguments:
            # LightningCLI's own would warn that sys.argv is not empty: it belongs to `trainer`.
            cli.config = parser.parse_object(copy.deepcopy(args))
        else:
            type(cli).parse_arguments(cli, parser, copy.deepcopy(args))
    except (Exception, SystemExit) as error:
        raise ConfigError(explain(flat, plan.args, error)) from error
    plan.parsed = True
    if plan.parse_only:
        raise _Stop


def _neutralise(parser: argparse.ArgumentParser, plan: Plan) -> None:
    """Writes our overrides into the trainer block: plain values for links to see, stand-ins for instances."""
    known = {action.dest for action in parser._actions}
    trainer = dict(plan.args.get("trainer") or {})
    for key, value in plan.trainer_kwargs.items():
        if key == "callbacks" or f"trainer.{key}" not in known:
            continue
        if value is None or isinstance(value, str | int | float):
            trainer[key] = value
        elif key in _NEUTRAL:
            trainer[key] = _NEUTRAL[key]
        else:
            trainer.pop(key, None)
    if trainer:
        plan.args["trainer"] = trainer


def _trainer(plan: Plan, cli: LightningCLI, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
    ours = dict(plan.trainer_kwargs)
    added = ours.pop("callbacks", None) or []
    added = [*added] if isinstance(added, list | tuple) else [added]
    return type(cli)._instantiate_trainer(cli, {**config, **ours}, [*callbacks, *added, *plan.callbacks])


def _release(cli: LightningCLI | None) -> None:
    """Takes our hooks off the objects: from here on they are the person's."""
    if cli is None:
        return
    for name in ("parse_arguments", "_instantiate_trainer", "_run_subcommand", "subcommands"):
        cli.__dict__.pop(name, None)
    for verb in _VERBS:
        getattr(getattr(cli, "trainer", None), "__dict__", {}).pop(verb, None)
