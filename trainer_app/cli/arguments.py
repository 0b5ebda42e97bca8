"""What `trainer train|tune` was asked for: files, overrides, the run's name, and the configuration they make."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer_app.errors import ConfigError, InputError, Problem
from trainer_app.run.identity import run_from_cluster

if TYPE_CHECKING:
    from trainer_app.config import RunConfig

_OVERRIDE: Final = re.compile(r"[^/\\=]+=")


@dataclass(frozen=True)
class Asked:
    """The words of the command line, unchecked."""

    task: str
    items: Sequence[str] = ()
    name: str | None = None
    resume: str | None = None
    storage: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can start."""

    config: RunConfig
    name: str
    resume: bool
    folders: tuple[str, ...] = ()  # of the run files: modules beside them can be imported


def split(items: Sequence[str]) -> tuple[list[str], list[str]]:
    """(files, overrides): an override has a `=` before any `/`, so a file named a=b.yaml is given as ./a=b.yaml."""
    overrides = [item for item in items if _OVERRIDE.match(item)]
    return [item for item in items if not _OVERRIDE.match(item)], overrides


def prepare(asked: Asked, env: Mapping[str, str] | None = None) -> Prepared:
    """Check everything that can be checked without starting anything. A storage is read only to resume without files.

    The command line goes before the environment, which goes before the run file.

    Raises:
        ConfigError: the run file's problems, all of them.
        InputError: names, missing files; NotFoundError: no such run to resume.
    """
    env = os.environ if env is None else env
    from trainer_app.records import generate_name

    files, overrides = split(asked.items)
    asked = _located(asked, overrides)
    storage = asked.storage or _given(overrides) or env.get("TRAINER_STORAGE_URI")
    if storage:
        overrides.append(f"storage.uri={json.dumps(storage)}")
    name, resume = _name(asked, env)
    config, folders = _config(files, overrides, storage, resume)
    if asked.task == "tune" and config.tune is None:
        wanted = "write a block with metric, mode and space, or use `trainer train`"
        raise ConfigError([Problem("tune", "is missing", allowed=wanted)])
    return Prepared(config, name or generate_name(config.name or asked.task), bool(resume), folders)


def _located(asked: Asked, overrides: Sequence[str]) -> Asked:
    """`--resume PATH` or `--resume URI` as a name and a storage."""
    if asked.resume is None or "/" not in asked.resume:
        return asked
    from trainer_app.results import resolve_run

    uri, name = resolve_run(asked.resume)
    if asked.storage or _given(overrides):
        raise InputError(f"--resume {asked.resume} says where the run is: leave out the storage, or give its name only")
    return replace(asked, resume=name, storage=uri)


def _given(overrides: Sequence[str]) -> str | None:
    values = [item.partition("=")[2] for item in overrides if item.startswith("storage.uri=")]
    return values[-1].strip("\"'") if values else None


def _name(asked: Asked, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(the run's name if it is fixed, the run to resume)."""
    if asked.resume and asked.name and asked.resume != asked.name:
        raise InputError(f"--resume {asked.resume} and --name {asked.name} differ: a resumed run keeps its name")
    if asked.resume:
        return _checked(asked.resume, "--resume"), asked.resume
    if asked.name:
        return _checked(asked.name, "--name"), None
    if given := env.get("TRAINER_RUN"):
        return _checked(given, "TRAINER_RUN"), None
    given = run_from_cluster(env)
    return (_checked(given, "RAY_CLUSTER_NAME") if given else None), None


def _checked(name: str, where: str) -> str:
    """The name, if it can be a run's; else an InputError that says where it came from."""
    from trainer_app.records import check_name

    try:
        return check_name(name)
    except InputError as e:
        raise InputError(f"{where}: {e}") from e


def parents(files: Sequence[str]) -> tuple[str, ...]:
    """The folders of the run files, each once: modules beside them can be imported."""
    return tuple(dict.fromkeys(str(Path(file).absolute().parent) for file in files))


def _config(
    files: list[str], overrides: list[str], storage: str | None, resume: str | None
) -> tuple[RunConfig, tuple[str, ...]]:
    """The configuration, and the folders of the files that it came from, now or when the run was started."""
    from trainer_app import config

    if files:
        return config.load(files, overrides), parents(files)
    if not resume:
        raise InputError("no run file: name one or more, or --resume RUN")
    from trainer_app.records import RunFolder
    from trainer_app.storage import open_store

    uri = storage or "runs"
    run = RunFolder.open(open_store(uri), resume)
    # Where it was found, not where it was written: folders move, and relative ones depend on where one stands.
    here = [*overrides, f"storage.uri={json.dumps(uri)}"]
    return config.loads(run.config_text(), file=f"{resume}/run.yaml", overrides=here), tuple(run.record.folders)
