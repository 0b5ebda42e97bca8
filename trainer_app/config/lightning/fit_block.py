"""A `config.yaml` that LightningCLI saved, or that was written for its subcommands."""

from __future__ import annotations

from typing import Any

from trainer_app.config.draft import Draft

_SUBCOMMANDS = ("validate", "test", "predict")
# LightningCLI's own switches, which say nothing about the science.
_SWITCHES = ("config", "print_config")
# Arguments of Trainer.fit, validate and predict that a saved config has besides ckpt_path.
_METHOD_ARGUMENTS = ("weights_only", "verbose", "return_predictions")
# A block whose keys are all commented out is null in YAML.
_EMPTY = ("trainer", "scaling", "checkpoint", "failure", "storage", "find", "tune", "arguments")
_BLOCKS = ("model", "data", "trainer", "optimizer", "lr_scheduler", "seed_everything", "ckpt_path")


def unwrap_fit(draft: Draft) -> None:
    """Move the block `fit` to the top level and drop what a run file has no use for, in place."""
    tree = draft.tree
    if isinstance(tree.get("fit"), dict):
        _unwrap_keys(draft, tree.pop("fit"))
        _drop_subcommands(draft)
    elif "fit" in tree and tree["fit"] is None:
        del tree["fit"]
    if tree.get("subcommand") in (None, "fit"):
        tree.pop("subcommand", None)
    for key in _SWITCHES:
        tree.pop(key, None)
    for key in [key for key in _EMPTY if key in tree and tree[key] is None]:
        del tree[key]
    for key in _METHOD_ARGUMENTS[1:] if "cli" not in tree else ():
        tree.pop(key, None)
    tune = tree.get("tune")
    if isinstance(tune, dict) and "metric" not in tune and any(key in tune for key in ("trainer", "model")):
        del tree["tune"]
        draft.note(("tune",), "is an old subcommand of LightningCLI, not used; a sweep is tune: {metric, mode, space}")


def _unwrap_keys(draft: Draft, fit: dict[str, Any]) -> None:
    moved = {("fit", *path[1:]): at for path, at in draft.lines.items() if path[:1] == ("fit",)}
    for key, value in fit.items():
        if key in draft.tree and draft.tree[key] is not None:
            draft.report(("fit", str(key)), f"{key} is at the top level too", allowed="keep one")
            continue
        draft.tree[key] = value
        for path, at in moved.items():
            if path[:2] == ("fit", str(key)):
                draft.lines[path[1:]] = at


def _drop_subcommands(draft: Draft) -> None:
    for name in _SUBCOMMANDS:
        block = draft.tree.get(name)
        if name in draft.tree and (block is None or set(block) <= {*_BLOCKS, *_METHOD_ARGUMENTS}):
            del draft.tree[name]
            draft.note((name,), "is not used: a run fits, then trainer test scores its best checkpoint")
