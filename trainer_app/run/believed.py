"""What a run that is resumed or tested takes from its storage, where every run of the same keys can write.

Which classes a checkpoint may hold and from which folders modules are imported is never among it: that comes from the
command line, from the user's own run file, or in a pod from the submitted one. Nor is code: what a stored run file
names is the user's and torch's, and no module in the storage.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.config.allowed_classes import find_refused, named_code
from trainer_app.errors import InputError
from trainer_app.records.plain_json import to_json, to_plain
from trainer_app.storage_uri import parse_scheme

# What a run chooses for itself where its run file leaves it open.
_CHOSEN: Final = ("seed_everything", "scaling.use_gpu", "trainer.max_epochs", "trainer.max_steps")
_RUN_FILES: Final = ("run.json", "run.yaml")


def load_stored(text: str, *, uri: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return a stored run file with this command's overrides, and without the storage's `checkpoint.allow`.

    Files that it starts from are loaded with `weights_only`.

    Args:
        uri: of its run's folder.

    Raises:
        InputError: it has classes in `checkpoint.allow`, and the command names none; or it names code that no storage
            may name.
        ConfigError: the file or an override is wrong.
    """
    run = unquote(uri.partition("?")[0].rpartition("/")[2])
    file = f"{run}/run.yaml"
    stored = loads(text, file=file)
    _check_code(stored, run, "" if parse_scheme(uri) else str(Path(uri).parent))
    allow = stored.checkpoint.allow
    changes: dict[str, Any] = {"checkpoint.allow": []} if allow else {}
    if stored.ckpt_path or stored.weights:
        changes["weights_only"] = True  # else torch may run what is in the file; this command may say otherwise
    if changes:
        text = dump(override(stored, changes))
    config = loads(text, file=file, overrides=list(overrides))
    if allow and not config.checkpoint.allow:
        options = " ".join(f"--allow {name}" for name in allow)
        raise InputError(
            f"run {run}: its stored run file lets checkpoints hold {', '.join(allow)}, which its storage can't decide; "
            f"if you trust them: {options}, or give your own run file"
        )
    return config


def _check_code(stored: RunConfig, run: str, storage: str) -> None:
    """Raise InputError if a stored run file names Python's own code, this program's, or modules in the storage.

    Args:
        storage: the storage's folder; "" if it is none.
    """
    tree = stored.tree
    problems = find_refused(tree)
    if storage:
        inside = [f"{key}: {path}: it is in the storage" for key, path in named_code(tree) if _is_stored(path, storage)]
        problems += inside
    if problems:
        raise InputError(f"run {run}: its stored run file names code that its storage can't decide: {problems[0]}")


def _is_stored(path: str, storage: str) -> bool:
    """Return whether a script or a module of an import path would be loaded from the folder of a storage."""
    parts = Path(path).parts if path.endswith(".py") else re.split(r"[.:]", path)
    root, here = Path(storage).resolve(), Path.cwd().resolve()
    for entry in dict.fromkeys([str(here), *sys.path]):
        for place in accumulate(parts, Path.joinpath, initial=Path(entry or here)):
            found = place.resolve()
            if place != Path(entry or here) and found.exists() and found.is_relative_to(root):
                run = root.joinpath(*found.relative_to(root).parts[:1])
                holds_run = any((run / name).exists() for name in _RUN_FILES) and not here.is_relative_to(run)
                if holds_run or not here.is_relative_to(root):
                    return True
    return False


def allow_override(allow: Sequence[str]) -> list[str]:
    """Return the override of a run file by which its checkpoints may hold these classes; none without any."""
    return [f"checkpoint.allow={to_json(list(allow)).decode()}"] if allow else []


def stored_choices(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return of `run.json`'s choices those that name no code: numbers and strings of the keys that a run chooses."""
    return {
        key: value
        for key, value in resolved.items()
        if (key in _CHOSEN or key.startswith(("model.", "data.", "optimizer.")))
        and "class_path" not in key.split(".")
        and (value is None or isinstance(value, bool | int | float | str))
        and not any(find_spec(re.split(r"[.:]", path)[0]) for _, path in named_code(value))
    }


SEED: Final = "seed_everything"  # of a repeat of a trial


def trial_params(config: RunConfig, params: Mapping[str, Any], *, trial: str) -> dict[str, Any]:
    """Return a trial's stored parameters.

    Raises:
        InputError: one is not a value of its key in `tune.space` or in PBT's mutations.
    """
    tune = config.tune
    mutations = tune.scheduler.args.mutations if tune and tune.scheduler.kind == "pbt" else {}
    for key, value in params.items():
        if key == SEED and tune and tune.repeat and type(value) is int:
            continue
        space = tune.space if tune else {}
        allowed = [
            key in space and _may_have(space[key], value),
            key in mutations and _may_become(mutations[key], value),
        ]
        if not any(allowed):
            known = key in space or key in mutations
            reason = f"{value!r} is none of its values" if known else "the run file does not draw that key"
            raise InputError(
                f"trials/{trial}/trial.json: its parameter {key} is not the run's ({reason}); delete that file: "
                "the trial is drawn again"
            )
    return dict(params)


def _may_become(mutation: Any, value: Any) -> bool:
    """Return whether PBT may give this value: one of a list, or a number, which it multiplies."""
    if _is_number(value):
        return True
    return value in to_plain(mutation, "values") if isinstance(mutation, list) else _may_have(mutation, value)


def _may_have(domain: Any, value: Any) -> bool:
    """Return whether a primitive of the space may give this value."""
    args = domain.args
    if domain.kind == "sample_from":
        return True
    if (values := args.get("categories", args.get("values"))) is not None:
        return value in to_plain(values, "values")
    return _is_number(value) and args.get("lower", -math.inf) <= value <= args.get("upper", math.inf)


def _is_number(value: Any) -> bool:
    limit = sys.float_info.max  # an integer may be larger, and is no float then
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit
