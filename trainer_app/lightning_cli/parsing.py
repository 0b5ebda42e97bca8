"""Parse a run file's blocks as a LightningCLI parses its `--config`."""

from __future__ import annotations

import copy
from contextlib import chdir
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import default_files
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
    default_files.make_absolute(parser, flat)
    first: BaseException | None = None
    folders = relative_folders()
    for folder in folders:
        try:
            with chdir(folder):
                _merge_defaults(parser, flat, block)
                return _parse(cli, parser, copy.deepcopy(args))
        except (Exception, SystemExit) as error:  # noqa: BLE001  explained below
            first = first or error
    assert first is not None
    wrong = default_files.find_problems(parser, flat)
    if wrong:
        raise ConfigError(wrong) from first
    with chdir(folders[0]):
        raise ConfigError(explain(flat, written, first)) from first


def _parse(cli: LightningCLI, parser: LightningArgumentParser, args: dict[str, Any]) -> None:
    if type(cli).parse_arguments is LightningCLI.parse_arguments:
        # LightningCLI's own method would warn about sys.argv, which belongs to `trainer`.
        cli.config = parser.parse_object(args)
    else:
        type(cli).parse_arguments(cli, parser, args)


def _merge_defaults(parser: ArgumentParser, flat: ArgumentParser, block: dict[str, Any], prefix: str = "") -> None:
    """Resolve `callbacks+`, and arguments of a part whose class the defaults have, in place.

    Below a subcommand parse_object takes them for the whole value, where a file or a command line adds to the defaults.
    """
    known = {action.dest for action in flat._actions}
    for key in [key for key in block if isinstance(block[key], dict | list)]:
        argument = f"{prefix}{key}".removesuffix("+")
        if isinstance(block[key], dict):
            _merge_defaults(parser, flat, block[key], f"{argument}.")
        if argument in known and (key.endswith("+") or isinstance(block[key], list)):
            value = _merge_list(flat, f"{prefix}{key}", block.pop(key), _default(parser, flat, argument))
            block[key.removesuffix("+")] = value
        elif isinstance(block[key], dict) and "class_path" not in block[key] and argument in known:
            block[key] = _completed(block[key], _default(parser, flat, argument))


def _merge_list(flat: ArgumentParser, key: str, value: Any, default: Any) -> Any:
    """Return the value of `key` or `key+`, merged with the default as jsonargparse does it for a file.

    Items are appended; or, if the default has as many, each one is merged with the default's in its place.
    """
    items, old = _as_list(value), [] if default is None else _as_list(default)
    if not old or not (key.endswith("+") or len(items) == len(old)):
        return value
    before = Namespace()
    before[key.removesuffix("+")] = copy.deepcopy(default)
    try:
        merged = flat._apply_actions({key: copy.deepcopy(value)}, prev_cfg=before).get(key.removesuffix("+"))
    except (TypeError, ValueError, KeyError):  # explained when it is parsed
        return [*old, *items] if key.endswith("+") else value
    return _plain(merged)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _default(parser: ArgumentParser, flat: ArgumentParser, argument: str) -> Any:
    default = None
    if parser is not flat and parser.default_config_files:
        default = parser.get_defaults(skip_validation=True).get(f"fit.{argument}")
    if default is None:
        default = flat.get_defaults(skip_validation=True).get(argument)
    return _plain(default)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.as_dict() if isinstance(value, Namespace) else value


def _completed(part: Any, default: Any) -> Any:
    """Return a part that lacks its class_path over a default that has one; anything else is as it is."""
    if not isinstance(part, dict) or "class_path" in part or not isinstance(default, dict):
        return part
    if "class_path" not in default:
        return part
    apart = {key: part[key] for key in part if key in ("init_args", "dict_kwargs")}
    bare = {key: value for key, value in part.items() if key not in apart}
    old = dict(default.get("init_args") or {})
    given = {**bare, **(apart.pop("init_args", None) or {})}
    init_args = old | {key: _completed(value, old.get(key)) for key, value in given.items()}
    return {**default, **apart, "init_args": init_args}
