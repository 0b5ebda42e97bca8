"""A run as it is asked for, with run files, overrides and the environment, made into one that can start."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer_app.errors import ConfigError, InputError, Problem
from trainer_app.run.identity import current_submission, run_from_cluster

if TYPE_CHECKING:
    from trainer_app.config import RunConfig
    from trainer_app.storage import Store

_OVERRIDE: Final = re.compile(r"[^/\\=]+=")


@dataclass(frozen=True)
class RunRequest:
    """What a user or a launcher asks for, unchecked."""

    task: str  # train or tune
    items: Sequence[str] = ()  # run files, and overrides KEY=VALUE
    name: str | None = None
    resume: str | None = None  # a run's name, path or URI
    storage: str | None = None  # in place of storage.uri
    allow: Sequence[str] = ()  # classes that checkpoints may hold, in place of checkpoint.allow
    folders: Sequence[str] = ()  # beside those of the run files: modules there can be imported


@dataclass(frozen=True)
class PreparedRun:
    """A run that can start."""

    task: str
    config: RunConfig
    name: str
    resume: bool  # whether it is the next attempt of a run that exists
    folders: tuple[str, ...] = ()  # of the run files: modules beside them can be imported
    submission: str | None = None  # the id of this process's submission; None for a run that a user starts here

    @property
    def storage(self) -> Store:
        """The storage that holds the run; it is waited for, see `open_retrying`."""
        from trainer_app.storage import open_retrying

        timeout_s = self.config.failure.storage_timeout_s
        return open_retrying(self.config.storage.uri, timeout_s, submitted=self.submission is not None)

    @property
    def run_store(self) -> Store:
        """The run's own folder in its storage."""
        return self.storage.child(self.name)


def split_items(items: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (files, overrides): an override has a `=` before any `/`; a file named a=b.yaml is given as ./a=b.yaml."""
    overrides = [item for item in items if _OVERRIDE.match(item)]
    return [item for item in items if not _OVERRIDE.match(item)], overrides


def prepare_run(request: RunRequest, env: Mapping[str, str] | None = None) -> PreparedRun:
    """Check everything that can be checked without starting anything.

    Options take precedence over the environment, and the environment over the run file. A storage is read only to
    resume without files.

    Raises:
        ConfigError: the run file's problems, all of them.
        InputError: a name, or a file that is missing. NotFoundError: there is no such run to resume.
    """
    env = os.environ if env is None else env
    from trainer_app.records import generate_name
    from trainer_app.run.believed import allow_override

    files, overrides = split_items(request.items)
    request = _split_location(request, overrides)
    storage = request.storage or _storage_override(overrides) or env.get("TRAINER_STORAGE_URI")
    if storage:
        overrides.append(f"storage.uri={json.dumps(storage)}")
    overrides += allow_override(request.allow)
    name, resume = _resolve_name(request, env)
    config = _load_config(files, overrides, storage, resume)
    folders = tuple(dict.fromkeys((*parent_folders(files), *(str(Path(one).absolute()) for one in request.folders))))
    if request.task == "tune" and config.tune is None:
        wanted = "write a block with metric, mode and space, or use `trainer train`"
        raise ConfigError([Problem("tune", "is missing", allowed=wanted)])
    name = name or generate_name(config.name or request.task)
    submission = None if request.resume else current_submission(env)
    return PreparedRun(request.task, config, name, bool(resume), folders, submission)


def _split_location(request: RunRequest, overrides: Sequence[str]) -> RunRequest:
    """Split `--resume PATH` or `--resume URI` into a name and a storage."""
    if request.resume is None or "/" not in request.resume:
        return request
    from trainer_app.results import resolve_run

    uri, name = resolve_run(request.resume)
    if request.storage or _storage_override(overrides):
        advice = "leave out the storage, or give its name only"
        raise InputError(f"--resume {request.resume} says where the run is: {advice}")
    return replace(request, resume=name, storage=uri)


def _storage_override(overrides: Sequence[str]) -> str | None:
    values = [item.partition("=")[2] for item in overrides if item.startswith("storage.uri=")]
    return values[-1].strip("\"'") if values else None


def _resolve_name(request: RunRequest, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return (the run's name if it is given, the run to resume)."""
    if request.resume and request.name and request.resume != request.name:
        raise InputError(f"--resume {request.resume} and --name {request.name} differ: a resumed run keeps its name")
    if request.resume is not None:  # "" is an empty variable of the user's shell: it must not start another run
        return _check_name(request.resume, "--resume"), request.resume
    if request.name is not None:
        return _check_name(request.name, "--name"), None
    if name := env.get("TRAINER_RUN"):
        return _check_name(name, "TRAINER_RUN"), None
    name = run_from_cluster(env)
    return (_check_name(name, "RAY_CLUSTER_NAME") if name else None), None


def _check_name(name: str, source: str) -> str:
    """Return the name. Raises InputError, naming the source of the name, if it can't be a run's."""
    from trainer_app.records import check_name

    try:
        return check_name(name)
    except InputError as e:
        raise InputError(f"{source}: {e}") from e


def parent_folders(files: Sequence[str]) -> tuple[str, ...]:
    """Return the folders of the run files, each once: modules beside them can be imported."""
    return tuple(dict.fromkeys(str(Path(file).absolute().parent) for file in files))


def _load_config(files: list[str], overrides: list[str], storage: str | None, resume: str | None) -> RunConfig:
    """Return the configuration of the files, or that of a stored run."""
    from trainer_app import config

    if files:
        return config.load(files, overrides)
    if not resume:
        raise InputError("no run file: name one or more, or --resume RUN")
    from trainer_app.records import RunFolder
    from trainer_app.run.believed import load_stored
    from trainer_app.storage import open_store

    uri = storage or "runs"
    run = RunFolder.open(open_store(uri), resume)
    # The storage it was found in, not the one it was written to: folders move, and relative paths depend on the
    # working directory.
    located = [*overrides, f"storage.uri={json.dumps(uri)}"]
    return load_stored(run.read_config(), uri=run.uri, overrides=located)
