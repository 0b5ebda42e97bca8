"""What `trainer doctor --in-cluster` runs in a pod: checks of the image and of the storage.

    python -m trainer_app.pod.probe

Prints one JSON object a line, {check, ok, message}; the exit code is 1 if a check fails.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec

from trainer_app.errors import TrainerError
from trainer_app.storage.round_trip import check_round_trip


def main() -> int:
    """Run the checks; return 0 if a run could work here, else 1."""
    failed = False
    for name, check in (("image", check_image), ("storage", check_storage)):
        try:
            ok, message = True, check()
        except (TrainerError, OSError) as error:
            ok, message = False, " ".join(str(error).split())
        failed |= not ok
        print(json.dumps({"check": name, "ok": ok, "message": message}), flush=True)
    return int(failed)


def check_image() -> str:
    """Return what the image has.

    Raises:
        TrainerError: it lacks what runs need.
    """
    missing = [name for name in ("torch", "lightning", "ray") if find_spec(name) is None]
    if missing:
        raise TrainerError(f"the image has no {', '.join(missing)}; build it with: make image")
    return f"has torch, lightning and ray; Python {sys.version.split()[0]}"


def check_storage() -> str:
    """Write, read and delete an object; return a line that says so.

    Raises:
        StorageError: the storage refuses it, or does not answer.
        TrainerError: no storage is set.
    """
    uri = os.environ.get("TRAINER_STORAGE_URI")
    if not uri:
        raise TrainerError("no TRAINER_STORAGE_URI in the pod: set storage.bucket or storage.claim")
    return check_round_trip(uri)


if __name__ == "__main__":
    sys.exit(main())
