"""A run created again from its storage: one that failed, was stopped for good, or whose objects are gone."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from trainer_app.errors import NotFoundError, TrainerError
from trainer_app.launch import control, helm, location
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.remote_run import Launch, Stored
from trainer_app.launch.submit import KEPT, Say, accepted, check_secret, create, launch_of, new_submission
from trainer_app.redact import remove_secrets

FREE_S: Final = 60.0


def resubmit(
    kube: Kube,
    found: location.Place,
    *,
    say: Say,
    values: Sequence[str] = (),
    sets: Sequence[str] = (),
    endpoint: str | None = None,
) -> None:
    """Create a run again from its storage, under the same name and another submission; it goes on where it was.

    Args:
        values, sets: over the values that are stored, which hold no secrets.

    Raises:
        NotFoundError: nothing is stored to create it from.
    """
    run = found.run
    with location.reachable(kube, found, endpoint):
        stored = Stored.open(found.uri, run)
        launch, text, kept = stored.launched()
        record = stored.record()
        if record and record.state == "succeeded":
            say(f"run {run} has finished: nothing to resume")
            return
        release, things, kept = _rendered(kube, launch, text, kept, values, sets)
        check_secret(kube, things)
        control.remove(kube, run, say=say)
        _until_free(kube, things)
        accepted(kube, things, say)
        stored.clear_stop()
        stored.keep_values(kept)
        stored.again(replace(launch_of(release), former=(*launch.former, launch.submission)))
        create(kube, things)
    say(f"resumed run {run}: created again from {found.uri}, it goes on from its newest commit")


def _rendered(
    kube: Kube, launch: Launch, text: str, kept: dict[str, Any], values: Sequence[str], sets: Sequence[str]
) -> tuple[helm.Release, list[Object], dict[str, Any]]:
    """(the release, its objects, its values): as it was submitted, by this user, with a submission of its own."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        file = Path(folder, "values.yaml")
        file.write_text(json.dumps(kept))
        new = new_submission(launch.run)
        again = helm.Release(launch.run, kube.namespace, launch.task, text, new, (str(file), *values), tuple(sets))
        release = replace(again, image=launch.image, code=launch.code, user=kube.user())
        merged = helm.merged_values(release.values, release.sets)
        return release, location.objects(helm.template(release)), remove_secrets(merged)


def _until_free(kube: Kube, things: Sequence[Object]) -> None:
    """Until the garbage collection took the former objects. One that has no owner is deleted here."""
    deadline = time.monotonic() + FREE_S
    for thing in things:
        kind, name = thing["kind"], thing["metadata"]["name"]
        while kind != KEPT:
            try:
                if not kube.get(kind, name)["metadata"].get("ownerReferences"):
                    kube.delete(kind, name)
            except NotFoundError:
                break
            if time.monotonic() > deadline:
                raise TrainerError(f"{kind} {name} of the former run is still there after {FREE_S:.0f} s; delete it")
            time.sleep(0.5)
