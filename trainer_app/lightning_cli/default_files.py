"""The default config files of a LightningCLI, relative to the working directory wherever the rest is parsed."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentParser

from trainer_app.config.draft import Draft, get_value
from trainer_app.config.yaml12 import parse
from trainer_app.errors import Problem
from trainer_app.lightning_cli.explain import explain_values, unexplained_problem
from trainer_app.lightning_cli.importing import relative_folders


def make_absolute(*parsers: ArgumentParser) -> None:
    """Look the files up now: in the working directory, else in the folders of the run files."""
    for parser in parsers:
        if parser.default_config_files:
            parser.default_config_files = [_find(os.fspath(file)) for file in parser.default_config_files]


def _find(pattern: str) -> str:
    folders = [str(Path.cwd()), *relative_folders()]
    places = [os.path.join(glob.escape(folder), os.path.expanduser(pattern)) for folder in folders]  # noqa: PTH111, PTH118
    return next((place for place in places if glob.glob(place)), places[0])  # noqa: PTH207


def find_problems(parser: ArgumentParser, fit: ArgumentParser) -> list[Problem]:
    """Return the problems of the first file that is wrong; none if the files are right.

    Args:
        parser, fit: the whole one and the one of the subcommand, which may be the same; their files are absolute.
    """
    for one in (parser, fit) if parser is not fit else (fit,):
        patterns, others = one.default_config_files, fit.default_config_files
        files = [file for pattern in patterns for file in sorted(glob.glob(pattern))]  # noqa: PTH207
        try:
            for number in range(1, len(files) + 1):  # a file may need what those before it say
                wrong = _problems_of_last(one, fit, files[:number])
                if wrong:
                    return wrong
        finally:
            one.default_config_files, fit.default_config_files = patterns, others
    return []


def _problems_of_last(parser: ArgumentParser, fit: ArgumentParser, files: Sequence[str]) -> list[Problem]:
    parser.default_config_files = [glob.escape(file) for file in files]
    try:
        parser.get_defaults()
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever user code raises in its own types
        parser.default_config_files = fit.default_config_files = []
        return _explain(fit, files[-1], above=("fit",) if parser is not fit else (), error=error)
    return []


def _explain(fit: ArgumentParser, file: str, *, above: tuple[str, ...], error: BaseException) -> list[Problem]:
    """Return the problems of a file; `above` is the key below which it has the arguments of `fit`."""
    draft = Draft()
    block = get_value(parse(Path(file).read_text(encoding="utf-8"), draft, file), above, {})
    found = [*draft.problems] or (explain_values(fit, block)[0] if isinstance(block, dict) else [])
    here = Path.cwd()
    name = str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file
    lines = [draft.locate((*above, *problem.key.split(".")))[1] for problem in found]
    located = [replace(problem, file=name, line=line) for problem, line in zip(found, lines, strict=True)]
    return located or [replace(unexplained_problem(error), file=name)]
