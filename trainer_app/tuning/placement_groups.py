"""Release the resources of a nested trial that was stopped.

Tune ends a trial by ending its process, some time after its callbacks. Ray Train's controller dies with it, but the
placement group stays until the whole job ends: Ray's own cleaner asks the state API whether the controller is alive,
which fails if two Rays run on one machine (Ray 2.60: "Found multiple active Ray instances"). The next trials would
wait for ever for the CPUs. It is not enough to remove the group: a controller that is still alive takes its dead
workers for lost ones and makes another. So the groups of a trial have its name and are removed after its controllers.
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
from trainer_app.tuning.trainable import WAITS_S

END_S: Final = 5.0  # for a killed controller to die; 20 to 100 ms are usual


class ControllerRegistry:
    """An actor that knows the controllers of each trial: several if its process was lost and started again."""

    def __init__(self) -> None:
        self.controllers: dict[str, list[tuple[str, Any]]] = {}

    def add(self, trial: str, actor: str, handles: list[Any]) -> None:
        """Note a controller of a trial.

        Args:
            actor: the controller's actor ID.
            handles: a list of one: its handle.
        """
        self.controllers.setdefault(trial, []).append((actor, handles))

    def get(self, trial: str) -> list[tuple[str, Any]]:
        """Return the (actor ID, handles) of a trial's controllers."""
        return self.controllers.get(trial, [])

    def pop(self, trial: str) -> list[tuple[str, Any]]:
        """Return the (actor ID, handles) of a trial's controllers, and forget them."""
        return self.controllers.pop(trial, [])


class TagPlacementGroups(ray_compat.ControllerCallback):
    """A callback in a nested trial's controller that registers it and gives its placement groups the trial's name."""

    def __init__(self, controllers: Any, prefix: str, trial: str) -> None:
        self.controllers = controllers
        self.prefix = prefix
        self.trial = trial

    def after_controller_start(self, train_run_context: Any) -> None:
        context = ray.get_runtime_context()
        ray.get(self.controllers.add.remote(self.trial, context.get_actor_id(), [context.current_actor]))
        worker_group = ray_compat.worker_group
        make = worker_group.placement_group

        def named(*args: Any, **kwargs: Any) -> PlacementGroup:
            return make(*args, **{**kwargs, "name": f"{self.prefix}{self.trial}-{uuid.uuid4().hex[:8]}"})

        worker_group.placement_group = named


class NestedTrialResources:
    """What the nested trials of one sweep reserve, kept by the driver; see `TagPlacementGroups`."""

    def __init__(self) -> None:
        self.controllers = ray.remote(**cluster.same_node_options())(ControllerRegistry).remote()
        self.prefix = f"sweep-{uuid.uuid4().hex[:8]}-"
        self.over: set[str] = set()
        self.ending: dict[str, float] = {}  # trials whose workers may still send what they wrote; until when

    def close(self) -> None:
        """Remove what is left, and end the actor: Tune keeps a pickled handle to it, so it would outlive the sweep."""
        for trial in list(self.ending):
            self.release(trial)
        self.remove_orphans()
        ray.kill(self.controllers)

    def release_when_ended(self, trial: str) -> None:
        """Let a trial's process end its workers, once they have sent what they wrote; see `release_ended`."""
        self.ending[trial] = time.monotonic() + WAITS_S + END_S

    def release_ended(self) -> None:
        """Release the trials whose controllers have ended since, and those whose time is over."""
        for trial, deadline in list(self.ending.items()):
            controllers = ray.get(self.controllers.get.remote(trial))
            if time.monotonic() > deadline or all(_is_dead(actor) for actor, _ in controllers):
                self.release(trial)

    def release(self, trial: str) -> None:
        """Kill a trial's controllers and remove its placement groups with their workers. Twice is no error."""
        self.ending.pop(trial, None)
        popped = ray.get(self.controllers.pop.remote(trial))
        for _, handles in popped:
            ray.kill(handles[0])
        deadline = time.monotonic() + END_S
        for actor, _ in popped:
            while not _is_dead(actor) and time.monotonic() < deadline:
                time.sleep(0.02)
        self.over.add(trial)
        self.remove_orphans()

    def release_for_retry(self, trial: str) -> None:
        """Release a trial whose process was lost and is started again."""
        self.release(trial)
        self.over.discard(trial)

    def remove_orphans(self) -> None:
        """Remove the groups of all trials that are over, also those made while they were released."""
        for group, entry in placement_group_table().items():
            name = entry["name"]
            ours = name.startswith(self.prefix) and name.removeprefix(self.prefix).rpartition("-")[0] in self.over
            if ours and entry["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(ray_compat.PlacementGroupID.from_hex(group)))


def _is_dead(actor: str) -> bool:
    return (ray_compat.actors(actor) or {}).get("State") in (None, "DEAD")
