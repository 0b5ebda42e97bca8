"""Give back what a stopped nested trial holds.

Tune ends a trial by ending its process, some time after it tells its callbacks so. Ray Train's controller dies with
it, but the placement group stays until the whole job ends: Ray's own cleaner asks the state API whether the controller
lives, which fails where two Rays run on one machine (Ray 2.60: "Found multiple active Ray instances"). The next trials
would wait for ever for the CPUs. To remove the group alone is not enough: a controller that still lives takes its dead
workers for lost ones and makes another. So the groups of a trial have its name, and go after its controllers.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import ray
from ray.util import placement_group_table
from ray.util.placement_group import PlacementGroup, remove_placement_group

from trainer_app import ray_compat
from trainer_app.run import cluster

END_S: Final = 5.0  # until a controller that was killed is dead; 20 to 100 ms are usual


class ControllerRegistry:
    """An actor that knows the controllers of each trial: several, if its process was lost and started again."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[str, Any]]] = {}

    def note(self, trial: str, actor: str, handles: list[Any]) -> None:
        self.of.setdefault(trial, []).append((actor, handles))

    def take(self, trial: str) -> list[tuple[str, Any]]:
        return self.of.pop(trial, [])


class TagPlacementGroups(ray_compat.ControllerCallback):
    """Runs in a nested trial's controller: makes it known, and gives its placement groups the trial's name."""

    def __init__(self, controllers: Any, prefix: str, trial: str) -> None:
        self.controllers = controllers
        self.prefix = prefix
        self.trial = trial

    def after_controller_start(self, train_run_context: Any) -> None:
        context = ray.get_runtime_context()
        ray.get(self.controllers.note.remote(self.trial, context.get_actor_id(), [context.current_actor]))
        worker_group = ray_compat.worker_group
        make = worker_group.placement_group

        def named(*args: Any, **kwargs: Any) -> PlacementGroup:
            return make(*args, **{**kwargs, "name": f"{self.prefix}{self.trial}-{uuid.uuid4().hex[:8]}"})

        worker_group.placement_group = named


class NestedTrialResources:
    """In the driver: what the trials of one sweep hold. `controllers` and `prefix` are for `TagPlacementGroups`."""

    def __init__(self) -> None:
        self.controllers = ray.remote(**cluster.same_node_options())(ControllerRegistry).remote()
        self.prefix = f"sweep-{uuid.uuid4().hex[:8]}-"
        self.over: set[str] = set()

    def close(self) -> None:
        """The sweep is over. Its actor would live as long as the driver: Tune keeps a pickled handle to it."""
        self.remove_orphans()
        ray.kill(self.controllers)

    def release(self, trial: str) -> None:
        """Ends a trial's controllers and removes its placement groups, and with them its workers. Twice is no error."""
        taken = ray.get(self.controllers.take.remote(trial))
        for _, handles in taken:
            ray.kill(handles[0])
        deadline = time.monotonic() + END_S
        for actor, _ in taken:
            while not _dead(actor) and time.monotonic() < deadline:
                time.sleep(0.02)
        self.over.add(trial)
        self.remove_orphans()

    def release_for_retry(self, trial: str) -> None:
        """The trial is started again after its process was lost."""
        self.release(trial)
        self.over.discard(trial)

    def remove_orphans(self) -> None:
        """Removes the groups of all trials that are over, also those made while they were released."""
        for group, found in placement_group_table().items():
            name = found["name"]
            ours = name.startswith(self.prefix) and name.removeprefix(self.prefix).rpartition("-")[0] in self.over
            if ours and found["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(ray_compat.PlacementGroupID.from_hex(group)))


def _dead(actor: str) -> bool:
    return (ray_compat.actors(actor) or {}).get("State") in (None, "DEAD")
