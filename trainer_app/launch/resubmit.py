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
from trainer_app.launch.remote_run import Launch, RemoteRun
from trainer_app.launch.submit import (
    RETAINED_KIND,
    Say,
    check_admission,
    check_secret,
    create_objects,
    make_launch,
    make_submission,
)
from trainer_app.redact import remove_secrets

REMOVAL_TIMEOUT_S: Final = 60.0


def resubmit(
    kube: Kube,
    found: location.RunLocation,
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
    with location.storage_access(kube, found, endpoint):
        remote_run = RemoteRun.open(found.uri, run)
        launch, text, kept = remote_run.read_launch()
        record = remote_run.read_record()
        if record and record.state == "succeeded":
            say(f"run {run} has finished: nothing to resume")
            return
        release, objects, kept = _render(kube, launch, text, kept, values, sets)
        check_secret(kube, objects)
        control.delete_rayjob(kube, run, say=say)
        _wait_until_removed(kube, objects)
        check_admission(kube, objects, say)
        remote_run.clear_stop()
        remote_run.write_values(kept)
        remote_run.record_resubmission(replace(make_launch(release), former=(*launch.former, launch.submission)))
        create_objects(kube, objects)
    say(f"resumed run {run}: created again from {found.uri}, it goes on from its newest commit")


def _render(
    kube: Kube, launch: Launch, text: str, kept: dict[str, Any], values: Sequence[str], sets: Sequence[str]
) -> tuple[helm.Release, list[Object], dict[str, Any]]:
    """(the release, its objects, its values): as it was submitted, by this user, with a submission of its own."""
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        file = Path(folder, "values.yaml")
        file.write_text(json.dumps(kept))
        new = make_submission(launch.run)
        again = helm.Release(launch.run, kube.namespace, launch.task, text, new, (str(file), *values), tuple(sets))
        release = replace(again, image=launch.image, code=launch.code, user=kube.user())
        merged = helm.merged_values(release.values, release.sets)
        return release, location.load_objects(helm.template(release)), remove_secrets(merged)


def _wait_until_removed(kube: Kube, objects: Sequence[Object]) -> None:
    """Until the garbage collection took the former objects. One that has no owner is deleted here."""
    deadline = time.monotonic() + REMOVAL_TIMEOUT_S
    for obj in objects:
        kind, name = obj["kind"], obj["metadata"]["name"]
        while kind != RETAINED_KIND:
            try:
                if not kube.get(kind, name)["metadata"].get("ownerReferences"):
                    kube.delete(kind, name)
            except NotFoundError:
                break
            if time.monotonic() > deadline:
                raise TrainerError(
                    f"{kind} {name} of the former run is still there after {REMOVAL_TIMEOUT_S:.0f} s; delete it"
                )
            time.sleep(0.5)
