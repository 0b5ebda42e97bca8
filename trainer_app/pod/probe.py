"""What `trainer doctor --in-cluster` runs in a pod: does the storage take what a run would write?

    python -m trainer_app.pod.probe

Prints one JSON object a line, {check, ok, words}; the exit code is 1 if anything is not ok.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from importlib.util import find_spec

from trainer_app.errors import TrainerError
from trainer_app.storage import Store, open_store


def main() -> int:
    """0 if a run could work here."""
    checks: list[tuple[str, Callable[[], str]]] = [("image", check_image), ("storage", check_storage)]
    failed = 0
    for name, check in checks:
        try:
            ok, words = True, check()
        except (TrainerError, OSError) as error:
            ok, words = False, " ".join(str(error).split())
        failed += not ok
        print(json.dumps({"check": name, "ok": ok, "words": words}), flush=True)
    return int(failed > 0)


def check_image() -> str:
    """Raises TrainerError where the image has not what runs need."""
    absent = [name for name in ("torch", "lightning", "ray") if find_spec(name) is None]
    if absent:
        raise TrainerError(f"the image has no {', '.join(absent)}; build it with: make image")
    return f"has torch, lightning and ray; Python {sys.version.split()[0]}"


def check_storage() -> str:
    """An object written, read, and deleted. Raises StorageError, or TrainerError where no storage is set."""
    uri = os.environ.get("TRAINER_STORAGE_URI")
    if not uri:
        raise TrainerError("no TRAINER_STORAGE_URI in the pod: set storage.bucket or storage.claim")
    store, began = open_store(uri), time.monotonic()
    round_trip(store, f".doctor-{uuid.uuid4().hex[:12]}/probe")
    return f"{store.uri}: wrote, read and deleted an object in {time.monotonic() - began:.2f} s"


def round_trip(store: Store, key: str) -> None:
    """Put, get and delete one object.

    Raises:
        TrainerError: the storage's own words, or another content than was written.
    """
    data = os.urandom(1024)
    store.put(key, data)
    try:
        if store.get(key) != data:
            raise TrainerError(f"{store.uri} gave back other bytes than were written")
    finally:
        store.delete(key)


if __name__ == "__main__":
    sys.exit(main())
