"""Creating a run again from its storage: one that failed, that ended by a stop, or whose objects are gone."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from trainer_app.config import loads
from trainer_app.errors import NotFoundError, TrainerError
from trainer_app.launch import control, helm, location, submit
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.release import make_plan
from trainer_app.launch.remote_run import RUN_FILE, Launch, RemoteRun
from trainer_app.launch.variables import check_given
from trainer_app.redact import remove_secrets

REMOVAL_TIMEOUT_S: Final = 60.0


def resubmit(
    kube: Kube,
    run_location: location.RunLocation,
    *,
    say: submit.Say,
    values: Sequence[str] = (),
    sets: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    endpoint: str | None = None,
) -> None:
    """Create a run again from its storage, under the same name and a new submission; it resumes where it was.

    Args:
        say: called with each line for the user.
        values, sets, env: over the stored values, which have no secrets and no values of environment variables.
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.

    Raises:
        NotFoundError: the run was not submitted to this storage.
        TrainerError: the chart, the cluster or the storage refuses it.
    """
    run = run_location.run
    with location.storage_access(kube, run_location, endpoint):
        remote_run = RemoteRun.open(run_location.uri, run)
        launch, run_file, stored_values = remote_run.read_launch()
        record = remote_run.read_record()
        if record and record.state == "succeeded":
            say(f"run {run} has finished: nothing to resume")
            return
        release, objects, merged_values = _render(kube, launch, run_file, stored_values, values, sets, env)
        submit.check_secret(kube, objects)
        control.delete_rayjob(kube, run, say=say)
        _wait_until_removed(kube, objects)
        submit.check_admission(kube, objects, say)
        remote_run.clear_stop()
        remote_run.write_values(remove_secrets(merged_values))
        former = (*launch.former, launch.submission)
        remote_run.record_resubmission(replace(submit.make_launch(release, merged_values), former=former))
        submit.create_objects(kube, objects)
    say(f"resumed run {run} from its newest commit: created again from {run_location.uri}")


def _render(
    kube: Kube,
    launch: Launch,
    run_file: str,
    stored: dict[str, Any],
    values: Sequence[str],
    sets: Sequence[str],
    env: Mapping[str, str] | None = None,
) -> tuple[helm.Release, list[Object], dict[str, Any]]:
    """Return (release, objects, merged values) of what was submitted, as this user's and with a new submission."""
    submission = submit.make_submission(launch.run)
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        file = Path(folder, "values.yaml")
        file.write_text(json.dumps(stored))
        files = (str(file), *values)
        merged_values = helm.merged_values(files, sets)
        check_given(launch.env, env or {}, merged_values)
        release = helm.Release(launch.run, kube.namespace, launch.task, run_file, submission, files, tuple(sets))
        plan = make_plan(loads(run_file, file=f"{launch.run}/{RUN_FILE}"), launch.task)
        release = replace(
            release, image=launch.image, code=launch.code, user=kube.user(), plan=plan, env=dict(env or {})
        )
        return release, location.load_objects(helm.template(release)), merged_values


def _wait_until_removed(kube: Kube, objects: Sequence[Object]) -> None:
    """Wait until garbage collection has deleted the former objects; delete those that have no owner."""
    deadline = time.monotonic() + REMOVAL_TIMEOUT_S
    for obj in objects:
        kind, name = obj["kind"], obj["metadata"]["name"]
        while kind != submit.RETAINED_KIND:
            try:
                if not kube.get(kind, name)["metadata"].get("ownerReferences"):
                    kube.delete(kind, name)
            except NotFoundError:
                break
            if time.monotonic() > deadline:
                problem = f"{kind} {name} of the former run still exists after {REMOVAL_TIMEOUT_S:.0f} s"
                raise TrainerError(f"{problem}; delete it")
            time.sleep(0.5)
