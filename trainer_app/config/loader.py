"""From files, dotted overrides and LightningCLI's saved configs to a RunConfig, and back to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from trainer_app.config.checks import check_run_file
from trainer_app.config.draft import Draft, suggest_spelling
from trainer_app.config.lightning.adopt import adopt
from trainer_app.config.lightning.fit_block import unwrap_fit
from trainer_app.config.models import LIGHTNING_BLOCKS, OWN_BLOCKS, RunConfig
from trainer_app.config.overrides import apply_overrides, merge, set_value
from trainer_app.config.problems import validate_types
from trainer_app.config.tuning import Tune
from trainer_app.config.yaml12 import parse, to_yaml
from trainer_app.errors import ConfigError, Problem

# What a ConfigMap holds, and far more than any run file.
MAX_BYTES = 1 << 20


def load(files: Sequence[str | FilePath], overrides: Sequence[str] = ()) -> RunConfig:
    """Read run files, merged in order, with dotted overrides on top.

    Args:
        files: paths; later ones win, mappings are merged. Also a `config.yaml` that LightningCLI saved.
        overrides: `trainer.max_epochs=1`; values are YAML 1.2.

    Raises:
        ConfigError: all problems at once, each with file, line, key, value and what is allowed.
    """
    if isinstance(files, str | FilePath):
        files = [files]
    draft = Draft(broken=not files)
    if not files:
        draft.report(("FILE",), "no run file is given", allowed="for example: trainer validate run.yaml")
    for file in files:
        text = _text(draft, str(file))
        part = _document(text, str(file)) if text is not None else Draft(broken=True)
        _insert_files(part, FilePath(file).parent)
        merge(draft, part)
    return _finish(draft, overrides, files=[str(file) for file in files])


def loads(text: str, *, file: str = "run.yaml", overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file's text as `load` does.

    Args:
        text: YAML 1.2.
        file: its name in messages.
        overrides: as for `load`.

    Raises:
        ConfigError: all problems at once.
    """
    draft = Draft()
    merge(draft, _document(text, file))
    return _finish(draft, overrides, files=[file])


def override(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a copy with other values, checked again.

    Args:
        config: is not changed.
        values: plain values by dotted key; list items by index: `trainer.callbacks.0.init_args.patience`.

    Raises:
        ConfigError: a key that does not exist, or a value that is not allowed.
    """
    draft = Draft(tree=config.tree)
    for key, value in values.items():
        set_value(draft, key, value)
    changed = _finish(draft, (), files=[])
    known = [note for note in changed.notes if not any(old.endswith(note) for old in config.notes)]
    changed._lines = config._lines
    return changed.with_notes([*config.notes, *known], sweep=config._sweep_notes)


def dump(config: RunConfig) -> str:
    """Return YAML 1.2 that `loads` reads back to an equal config."""
    return to_yaml(config.tree)


def needs_files(text: str) -> bool:
    """Return whether the run file names other files for its blocks, which are not where it is sent."""
    return bool(_named_files(_document(text, "run.yaml").tree))


def require_tune(config: RunConfig) -> Tune:
    """Return the block `tune`.

    Raises:
        ConfigError: the run file has none.
    """
    if config.tune is None:
        raise ConfigError([Problem("tune", "is missing", allowed="trainer tune needs tune: {metric, mode, space}")])
    return config.tune


def _text(draft: Draft, file: str) -> str | None:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as e:
        reason = "no such file" if isinstance(e, FileNotFoundError) else (e.strerror or str(e)).lower()
        draft.report((file,), reason, allowed="a run file is YAML")
        return None
    except ValueError:  # a NUL in the name
        draft.report((file,), "no such file")
        return None
    if len(data) > MAX_BYTES:
        draft.report((file,), f"is larger than {MAX_BYTES} bytes", allowed="a run file is a page of YAML")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        draft.report((file,), f"is not UTF-8: byte {data[e.start]:#04x} in line {line}", allowed="save it as UTF-8")
        return None


def _document(text: str, file: str) -> Draft:
    part = Draft()
    tree = parse(text, part, file)
    if isinstance(tree, dict):
        part.tree = tree
        unwrap_fit(part)
    elif not part.problems:
        part.broken = True
        what = "is empty" if tree is None else "is not a mapping of keys to values"
        part.lines.clear()
        part.report((file,), what, allowed="for example model: {class_path: package.module.Class}")
    return part


def _insert_files(draft: Draft, folder: FilePath) -> None:
    """Replace `model: model.yaml` by what that file holds: only this machine has it."""
    for block in _named_files(draft.tree):
        file = str(folder / draft.tree[block])
        part = Draft()
        text = _text(part, file)
        if text is None:
            draft.report((block,), part.problems[0].message, file, "a file of YAML")
            draft.tree[block] = None
            continue
        draft.tree[block] = parse(text, part, file)
        draft.lines.update({(block, *path): at for path, at in part.lines.items()})
        draft.problems += part.problems
        draft.broken |= part.broken


def _named_files(tree: dict[str, Any]) -> list[str]:
    """Return the blocks that are in files of their own."""
    return [name for name in LIGHTNING_BLOCKS if str(tree.get(name)).endswith((".yaml", ".yml", ".json"))]


def _finish(draft: Draft, overrides: Sequence[str], *, files: list[str]) -> RunConfig:
    config = None
    if not draft.broken:
        apply_overrides(draft, overrides)
        _insert_files(draft, FilePath())
        _collect_arguments(draft)
        adopt(draft)
        config = validate_types(draft)
        if config is not None:
            check_run_file(draft, config)
    if draft.problems or config is None:
        order = {file: i for i, file in enumerate(files)}
        once = {str(problem): problem for problem in draft.problems}.values()
        raise ConfigError(sorted(once, key=lambda p: (order.get(p.file or p.key, len(order)), p.line or 0)))
    return config.with_notes(draft.notes, sweep=draft.sweep_notes).with_lines(draft.lines)


def _collect_arguments(draft: Draft) -> None:
    """With `cli`, move unknown keys of the top level to `arguments`, which also has those named as ours."""
    tree = draft.tree
    if not isinstance(tree.get("cli"), str):
        if "arguments" in tree:
            draft.report(("arguments",), "unknown key", allowed="only with cli: package.module:YourCLI")
            del tree["arguments"]
        return
    names = [name for name in tree if name not in RunConfig.model_fields or _is_argument(draft, name)]
    arguments = tree.get("arguments") or {}
    if names and isinstance(arguments, dict):
        tree["arguments"] = {**arguments, **{name: tree.pop(name) for name in names}}


def _is_argument(draft: Draft, name: str) -> bool:
    """Return whether a block with the name of one of ours is the cli's own: it has a key that is nothing like ours."""
    known = list(OWN_BLOCKS.get(name, ()))
    block = draft.tree[name]
    if not known or not isinstance(block, dict) or not block:
        return False
    foreign = [str(key) for key in block if key not in known]
    if not foreign or any("did you mean" in suggest_spelling(key, known) for key in foreign):
        return False
    draft.note((name,), f"is read as an argument of the cli: {', '.join(foreign)} is no key of the run's own {name}")
    return True
