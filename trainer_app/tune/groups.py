"""Give back what a stopped nested trial holds.

Tune ends a trial by ending its process. Ray Train's controller dies with it, but the placement group stays: Ray's own
cleaner asks the state API whether the controller lives, which fails where two Rays run on one machine (Ray 2.60:
"Found multiple active Ray instances"), and the next trials then wait for ever for the CPUs.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._raylet import PlacementGroupID
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group


class Groups:
    """An actor that knows the placement groups of each trial."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}

    def note(self, trial: str, group: str) -> None:
        self.of.setdefault(trial, []).append(group)

    def take(self, trial: str) -> list[str]:
        return self.of.pop(trial, [])


class NoteGroup(WorkerGroupCallback):
    """Runs in a nested trial's controller."""

    def __init__(self, groups: Any, trial: str) -> None:
        self.groups = groups
        self.trial = trial

    def after_worker_group_start(self, worker_group: Any) -> None:
        handle = worker_group.get_worker_group_state().placement_group_handle
        ray.get(self.groups.note.remote(self.trial, handle.placement_group.id.hex()))


def start() -> Any:
    """The actor, in this driver's hands."""
    return ray.remote(num_cpus=0)(Groups).remote()


def release(groups: Any, trial: str) -> None:
    """Remove a trial's placement groups, and with them its workers. Removing one twice is no error."""
    for group in ray.get(groups.take.remote(trial)):
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(group)))
