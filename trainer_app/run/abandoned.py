"""Whether a run's driver is gone, for who only reads the run."""

from __future__ import annotations

from trainer_app.errors import StorageError
from trainer_app.run import lease_file
from trainer_app.storage import open_store


def is_abandoned(uri: str) -> bool:
    """Return whether the driver of the run at `uri` has certainly ended: a process of this machine that is gone.

    False if that is unknown: the driver ran on another machine, or its lease can't be read.
    """
    try:
        return lease_file.holding_process(lease_file.parse(open_store(uri).get(lease_file.KEY))).is_dead()
    except (StorageError, ValueError):  # no lease, or damaged
        return False
