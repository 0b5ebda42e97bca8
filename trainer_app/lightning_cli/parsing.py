"""Parse a run file's blocks as a LightningCLI parses its `--config`."""

from __future__ import annotations

import copy
from contextlib import chdir
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from trainer_app.errors import ConfigError
from trainer_app.lightning_cli.explain import explain
from trainer_app.lightning_cli.importing import relative_folders


def parse_in_folders(
    cli: LightningCLI,
    parser: LightningArgumentParser,
    flat: ArgumentParser,
    args: dict[str, Any],
    block: dict[str, Any],
) -> None:
    """Parse where relative paths are those of the run file, as with `--config`, else in the working directory.

    Args:
        parser, args: as LightningCLI.parse_arguments has them.
        flat, block: without the subcommand: the parser of `fit`, and what it gets, which is a part of `args`.

    Raises:
        ConfigError: no folder will do.
    """
    written = copy.deepcopy(block)
    _append_to_defaults(flat, block)
    first: BaseException | None = None
    folders = relative_folders()
    for folder in folders:
        try:
            with chdir(folder):
                return _parse(cli, parser, copy.deepcopy(args))
        except (Exception, SystemExit) as error:  # noqa: BLE001  explained below
            first = first or error
    assert first is not None
    with chdir(folders[0]):
        raise ConfigError(explain(flat, written, first)) from first


def _parse(cli: LightningCLI, parser: LightningArgumentParser, args: dict[str, Any]) -> None:
    if type(cli).parse_arguments is LightningCLI.parse_arguments:
        # LightningCLI's own method would warn about sys.argv, which belongs to `trainer`.
        cli.config = parser.parse_object(args)
    else:
        type(cli).parse_arguments(cli, parser, args)


def _append_to_defaults(parser: ArgumentParser, block: dict[str, Any], prefix: str = "") -> None:
    """Resolve `callbacks+`, in place: below a subcommand parse_object appends to nothing, not to the defaults."""
    known = {action.dest for action in parser._actions}
    for key in [key for key in block if isinstance(block[key], dict | list)]:
        argument = f"{prefix}{key}".removesuffix("+")
        if isinstance(block[key], dict):
            _append_to_defaults(parser, block[key], f"{argument}.")
        elif key.endswith("+") and argument in known:
            default = parser.get_defaults(skip_validation=True).get(argument) or []
            default = default if isinstance(default, list) else [default]
            plain = [item.as_dict() if isinstance(item, Namespace) else item for item in default]
            block[key.removesuffix("+")] = [*plain, *block.pop(key)]
