"""`trainer init`: a project to start from."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Annotated, Final

import typer

from trainer_app.errors import InputError
from trainer_app.formatting import command
from trainer_app.run_names import BASE_NAME_MAX, fit_name

STARTER: Final = Path(__file__).parents[1] / "examples/starter/project"
FILES: Final = ("README.md", "model.py", "data.py", "run.yaml", "tune.yaml", "values.yaml")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that gets the files; made if it is not there.")]


def init(folder: Folder) -> None:
    """Write a project that trains at once: a module, its data, run files, values for Kubernetes, and a README.

    Nothing is overwritten. The network is small, and its data is a part of scikit-learn: nothing is downloaded.
    """
    if not str(folder.resolve()).isprintable():
        raise InputError(f"{str(folder)!r}: the files would have this name in a comment; give one that can be printed")
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise InputError(f"{folder} has {', '.join(there)}: nothing was written; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_text(adapt((STARTER / name).read_text(encoding="utf-8"), folder), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; give a folder that you can write") from error
    print(f"{folder}: {', '.join(FILES)}")
    print(f"next: {command('trainer', 'train', f'{_shown(folder)}/run.yaml')}")


def adapt(text: str, folder: Path) -> str:
    """Return a file's text with the paths and the name of a folder in place of the starter's."""
    shown = _shown(folder)
    name = fit_name(folder.resolve().name, BASE_NAME_MAX)
    name = f'"{name}"' if name in ("null", "true", "false") else name
    text = text.replace("name: starter ", f"name: {name} ").replace("# starter\n", f"# {name}\n")
    text = re.sub(r"\bstarter/([\w.]+)", lambda match: quote(f"{shown}/{match[1]}"), text)
    return text.replace("--code starter", f"--code {quote(shown)}")


def _shown(folder: Path) -> str:
    return f"./{folder}" if str(folder).startswith("-") else str(folder)
