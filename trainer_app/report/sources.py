"""What a page shows of a run beside its results: run file, log, host, and how a checkpoint is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from trainer_app.config.draft import Draft
from trainer_app.config.yaml12 import parse, to_yaml
from trainer_app.errors import NotFoundError, StorageError
from trainer_app.records.manifest import PAYLOAD
from trainer_app.redact import HIDDEN, is_secret_name
from trainer_app.results import Checkpoint
from trainer_app.storage import Store
from trainer_app.storage_uri import join_uri

LOG_LINES, LOG_BYTES = 200, 60_000
_LOGS: Final = "logs/driver"


@dataclass(frozen=True)
class RunFile:
    """A run file as the page shows it; `tree` is None if it can't be read. Both are without secrets."""

    text: str
    tree: Any = None


def read_run_file(run_store: Store) -> RunFile:
    """Return the run's run.yaml; one that is damaged as what is wrong with it."""
    try:
        text = run_store.get("run.yaml").decode(errors="replace")
    except NotFoundError:
        return RunFile("")
    except StorageError as error:
        return RunFile(f"# {error}")
    draft = Draft()
    tree = hide(parse(text, draft, "run.yaml"))
    if draft.broken or not isinstance(tree, dict):
        return RunFile(text)
    return RunFile(to_yaml(tree), tree)


def hide(value: Any) -> Any:
    """Return plain values in which whatever a secret's name stands for is hidden."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if is_secret_name(str(key).rpartition(".")[2]) and not _is_switch(item) else hide(item)
            for key, item in value.items()
        }
    return [hide(item) for item in value] if isinstance(value, list | tuple) else value


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def read_log(run_store: Store) -> dict[str, Any] | None:
    """Return {name, lines}: the last lines of the newest driver's log; None if the storage has none."""
    try:
        entries = sorted(run_store.list(_LOGS), key=lambda entry: (entry.modified, entry.key))
        if not entries:
            return None
        last = entries[-1]
        key = f"{_LOGS}/{last.key}"
        data = run_store.get(key, start=max(0, last.size - LOG_BYTES))
    except StorageError:
        return None
    return {"name": key, "lines": data.decode(errors="replace").splitlines()[-LOG_LINES:]}


def read_host(run_store: Store) -> str | None:
    """Return the name of the machine whose driver had the run last."""
    try:
        lease = json.loads(run_store.get("lease.json"))
    except (StorageError, ValueError, RecursionError):
        return None
    host = lease.get("host") if isinstance(lease, dict) else None
    return host if isinstance(host, str) else None


def checkpoint(one: Checkpoint, tree: Any) -> dict[str, Any]:
    """Return a checkpoint as the page has it; `load` is the line of Python that loads it."""
    model = tree.get("model") if isinstance(tree, dict) else None
    path = model.get("class_path") if isinstance(model, dict) else model
    name = path.rpartition(".")[2] if isinstance(path, str) and path.replace(".", "").isidentifier() else "MyModule"
    return {**asdict(one), "load": f"{name}.load_from_checkpoint({json.dumps(join_uri(one.uri, PAYLOAD))})"}
