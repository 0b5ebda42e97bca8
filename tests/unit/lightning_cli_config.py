"""A run file's blocks as `trainer_app.lightning_cli` reads them, without the rest of a run file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from trainer_app.config import RunConfig

PROJECTS = "tests.unit.cli_projects"
FOLDER = Path(__file__).parent / "cli_projects"
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
OURS = ("seed_everything", "model", "data", "trainer", "optimizer", "lr_scheduler")


def run_config(blocks: dict[str, Any], cli: str | None = None) -> RunConfig:
    blocks = copy.deepcopy(blocks)
    known = {key: blocks.pop(key) for key in OURS if key in blocks}
    return RunConfig(name="t", cli=cli, arguments=blocks, **known)


def form1(**changes: Any) -> dict[str, Any]:
    """Blocks of a run that fits in milliseconds; a change replaces a whole block, None removes it."""
    blocks: dict[str, Any] = {
        "seed_everything": 1,
        "model": {"class_path": f"{PROJECTS}.pieces.Net", "init_args": {"batch_size": 4, "width": 8}},
        "data": {"class_path": f"{PROJECTS}.pieces.Data", "init_args": {"batch_size": 4}},
        "trainer": {"max_epochs": 1, **QUIET},
    }
    return {key: value for key, value in {**blocks, **changes}.items() if value is not None}


def read(name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load((FOLDER / name).read_text()))
