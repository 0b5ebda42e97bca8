"""The check that a storage can be used, for `trainer doctor`, its pod and `helm test`."""

from __future__ import annotations

import os
import time
import uuid

from trainer_app.errors import TrainerError
from trainer_app.storage.uri import open_store


def check_round_trip(uri: str) -> str:
    """Write, read and delete one object; return a line that says so.

    Raises:
        StorageError: the storage refuses it, or does not answer.
        TrainerError: other bytes come back.
    """
    store, key, data = open_store(uri), f".check/{uuid.uuid4().hex[:12]}", os.urandom(1024)
    started = time.monotonic()
    store.put(key, data)
    try:
        if store.get(key) != data:
            raise TrainerError(f"{store.uri} returned other bytes than were written")
    finally:
        store.delete(key)
    return f"{store.uri}: wrote, read and deleted an object in {time.monotonic() - started:.2f} s"
