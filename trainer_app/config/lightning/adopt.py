"""Lightning's YAML as a run file: what Lightning's launcher would decide, Ray decides. Each change leaves a note."""

from __future__ import annotations

from typing import Any

from trainer_app.config.draft import Draft, Path, get_value
from trainer_app.config.lightning.common import keep_environment, set_scaling
from trainer_app.config.lightning.keys import OTHER_CHECKPOINT_IO, REPORT_CALLBACKS
from trainer_app.config.lightning.strategies import adopt_strategy

_RENAMED = {"pytorch_lightning.": "lightning.pytorch.", "lightning_fabric.": "lightning.fabric."}
_ACCELERATORS: dict[str, bool | None] = {"auto": None, "cpu": False, "gpu": True, "cuda": True}


def adopt(draft: Draft) -> None:
    """Turn what a Trainer alone would decide into `scaling`, in place. It can be repeated."""
    _expand_names(draft)
    _rename_packages(draft)
    trainer = draft.tree.get("trainer")
    if not isinstance(trainer, dict):
        return
    if isinstance(draft.tree.get("scaling") or {}, dict):
        draft.tree["scaling"] = dict(draft.tree.get("scaling") or {})
        _adopt_devices(draft, trainer)
        _adopt_accelerator(draft, trainer)
        adopt_strategy(draft, trainer)
    if "cli" not in draft.tree and "callbacks+" in trainer:  # Lightning's own CLI has no default to append to
        trainer["callbacks"] = trainer.pop("callbacks+")
    for key in ("callbacks", "callbacks+"):
        _adopt_callbacks(draft, trainer, key)
    _adopt_plugins(draft, trainer)


def _expand_names(draft: Draft) -> None:
    """Expand `model: package.module.Class`, LightningCLI's short form of class_path."""
    for block in ("model", "data", "optimizer", "lr_scheduler"):
        value = draft.tree.get(block)
        if isinstance(value, str) and not value.endswith((".yaml", ".yml", ".json")):
            draft.tree[block] = {"class_path": value}


def _adopt_devices(draft: Draft, trainer: dict[str, Any]) -> None:
    devices, nodes = trainer.pop("devices", None), trainer.pop("num_nodes", None)
    at, at_nodes = ("trainer", "devices"), ("trainer", "num_nodes")
    if nodes is not None and (not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1):
        draft.report(at_nodes, "must be an integer of at least 1", nodes)
        return
    try:
        count = _count(devices)
    except ValueError as e:
        draft.report(at, str(e), devices, "a number, a list of indices, or auto; or leave it to scaling.num_workers")
        return
    explicit = get_value(draft.tree, ("scaling", "num_workers")) is not None
    if count is not None:
        written = f"{devices!r}" if nodes in (None, 1) else f"{devices!r} x num_nodes {nodes}"
        set_scaling(draft, "num_workers", count * (nodes or 1), at, written)
    elif explicit:
        return
    elif nodes and nodes > 1:
        draft.report(at_nodes, "the number of workers on a node is not known", nodes, "set scaling.num_workers")
    elif devices is not None:
        draft.note(at, f"{devices!r} is not used: scaling.num_workers says how many, by default 1")


def _count(devices: Any) -> int | None:
    """Return the devices of a node by Lightning's rules; None for auto."""
    if devices is None or devices in ("auto", "-1") or (devices == -1 and not isinstance(devices, bool)):
        return None
    if isinstance(devices, str):
        parts = [part.strip() for part in devices.strip().split(",") if part.strip()]
        if not parts or not all(part.isdecimal() for part in parts):
            raise ValueError("can't be read")
        # "2" is two devices, "2," the device with index 2, as in Lightning
        return len(set(parts)) if "," in devices else _count(int(parts[0]))
    if isinstance(devices, list):
        if not devices or not all(isinstance(d, int) and not isinstance(d, bool) and d >= 0 for d in devices):
            raise ValueError("must list the devices' indices")
        if len(set(devices)) != len(devices):
            raise ValueError("names a device twice")
        return len(devices)
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError("must be at least 1" if isinstance(devices, int) else "can't be read")
    return devices


def _adopt_accelerator(draft: Draft, trainer: dict[str, Any]) -> None:
    accelerator = trainer.pop("accelerator", None)
    if accelerator is None:
        return
    if not isinstance(accelerator, str) or accelerator not in _ACCELERATORS:
        allowed = "allowed: auto, cpu, gpu, cuda; or leave it to scaling.use_gpu"
        draft.report(("trainer", "accelerator"), "Ray gives workers CPUs or NVIDIA GPUs", accelerator, allowed)
        return
    use_gpu = _ACCELERATORS[accelerator]
    if use_gpu is not None:
        set_scaling(draft, "use_gpu", use_gpu, ("trainer", "accelerator"), accelerator)


def _adopt_callbacks(draft: Draft, trainer: dict[str, Any], key: str) -> None:
    callbacks = trainer.get(key)
    items = [callbacks] if isinstance(callbacks, dict | str) else callbacks
    if items is None:
        return
    at: Path = ("trainer", key)
    if not isinstance(items, list):
        draft.report(at, "must be a list of class_path and init_args", callbacks)
        return
    kept = []
    for i, item in enumerate(items):
        path = _class_path(item)
        here = (*at, str(i)) if isinstance(callbacks, list) else at
        if path is None:
            draft.report(here, "must be a class_path with init_args", item, "for example {class_path: a.b.C}")
        elif path.startswith("ray.") and path.rpartition(".")[2] in REPORT_CALLBACKS:
            draft.note(here, f"{path} is replaced by the run's own")
        else:
            kept.append(item)
    if len(kept) < len(items):
        trainer[key] = kept
        if not kept:
            del trainer[key]


def _adopt_plugins(draft: Draft, trainer: dict[str, Any]) -> None:
    plugins = trainer.get("plugins")
    if plugins is None:
        return
    items = plugins if isinstance(plugins, list) else [plugins]
    kept = []
    for i, item in enumerate(items):
        here: Path = ("trainer", "plugins", str(i)) if isinstance(plugins, list) else ("trainer", "plugins")
        path = _class_path(item)
        if not keep_environment(draft, here, path):
            continue
        if path and path.rpartition(".")[2] in OTHER_CHECKPOINT_IO:
            reason = "checkpoints are committed by the run, which would not know when this one has written"
            draft.report(here, reason, path, "leave it out")
        kept.append(item)
    if not kept:
        del trainer["plugins"]
    elif len(kept) < len(items):
        trainer["plugins"] = kept


def _class_path(item: Any) -> str | None:
    path = item.get("class_path") if isinstance(item, dict) else item
    return path if isinstance(path, str) and path else None


def _rename_packages(draft: Draft) -> None:
    """Rename Lightning's classes from the package names of Lightning 1."""
    for block in ("model", "data", "trainer", "optimizer", "lr_scheduler"):
        if block in draft.tree:
            _rename(draft, draft.tree, block, (block,))


def _rename(draft: Draft, holder: Any, key: Any, path: Path) -> None:
    value = holder[key]
    if isinstance(value, dict):
        for name in value:
            _rename(draft, value, name, (*path, str(name)))
    elif isinstance(value, list):
        for i in range(len(value)):
            _rename(draft, value, i, (*path, str(i)))
    elif isinstance(value, str) and (
        key == "class_path" or path[:2] in (("trainer", "callbacks"), ("trainer", "callbacks+"))
    ):
        for old, new in _RENAMED.items():
            if value.startswith(old):
                holder[key] = new + value.removeprefix(old)
                draft.note(path, f"{value} is read as {holder[key]}; write that: the two packages can't be mixed")
