"""The files that a new run starts from, `ckpt_path` and `weights`: checked by the driver, before a start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trainer_app.config import RunConfig
from trainer_app.errors import ConfigError, Problem
from trainer_app.records.manifest import PAYLOAD, REST
from trainer_app.run import working_folder
from trainer_app.storage import open_store
from trainer_app.storage_uri import parse_scheme

LAST = "last"  # Lightning's word: the newest file of the project's own ModelCheckpoint


def check_start_files(config: RunConfig) -> None:
    """Check that the files that the run file names are there.

    Raises:
        ConfigError: one is not; its key is named.
    """
    with config.locate_problems():
        for key, path in named_files(config).items():
            if parse_scheme(path):
                folder, name = split_file(path)
                there = any(open_store(folder).exists(file) for file in (name, REST))
            else:
                there = find_local(path).exists()
            if not there:
                hint = "a path on the machine of the driver, or a URI, of a checkpoint or of its folder"
                raise ConfigError([Problem(key, "there is no such file", path, hint)])


def with_absolute_files(config: RunConfig) -> RunConfig:
    """Return the run file with these paths absolute: a worker may have another working directory.

    In a pod they stay: such a file came with the code, or is in the image, and every working folder has both.
    """
    if working_folder.ROOT in os.environ:
        return config
    local = {key: path for key, path in named_files(config).items() if not parse_scheme(path)}
    update: dict[str, Any] = {key: str(find_local(path).absolute()) for key, path in local.items()}
    if "weights" in update and config.weights is not None:
        update["weights"] = config.weights.model_copy(update={"path": update["weights"]})
    return config.model_copy(update=update) if update else config


def named_files(config: RunConfig) -> dict[str, str]:
    """Return {key: path or URI} of the files that the run file names."""
    paths = {"ckpt_path": config.ckpt_path, "weights": config.weights.path if config.weights else None}
    return {key: path for key, path in paths.items() if path is not None and path != LAST}


def find_local(path: str) -> Path:
    """Return the path of a checkpoint, given its own or that of a commit's folder."""
    found = Path(path).expanduser()
    return found / PAYLOAD if (found / PAYLOAD).is_file() else found


def split_file(uri: str) -> tuple[str, str]:
    """Return the folder and the name of a checkpoint, given its URI or that of a commit's folder."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return (folder, name) if name.endswith(".ckpt") else (uri.rstrip("/"), PAYLOAD)
