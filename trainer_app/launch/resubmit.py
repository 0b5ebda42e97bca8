"""Creating a run again from its storage: one that failed, that ended by a stop, or whose objects are gone."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from trainer_app.config import loads
from trainer_app.errors import InputError, NotFoundError, TrainerError
from trainer_app.launch import control, helm, location, manifests, submit, submitted
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.release import make_plan
from trainer_app.launch.remote_run import RUN_FILE, Launch, RemoteRun, Submission
from trainer_app.launch.stored_rights import changes, differences
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
    yes: bool = False,
) -> None:
    """Create a run again from its storage, under the same name and a new submission; it resumes where it was.

    What it is created with is what the cluster has of this user's submission. Without that it is what the storage has,
    whose rights must be those of the user's values.

    Args:
        say: called with each line for the user.
        values, sets, env: over the former values, which have no secrets and no values of environment variables.
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.
        yes: whether the storage may give the run rights that the user's values do not.

    Raises:
        NotFoundError: the run was not submitted to this storage.
        InputError: the storage gives it other rights than the user's values, or an object of its names is not its own.
        TrainerError: the chart, the cluster or the storage refuses it.
    """
    run, own = run_location.run, submitted.read(kube, run_location.run)
    with location.storage_access(kube, run_location, endpoint):
        remote_run = RemoteRun.open(run_location.uri, run)
        record = remote_run.read_record()
        if record and record.state == "succeeded":
            say(f"run {run} has finished: nothing to resume")
            return
        submission = _choose(run, own, remote_run, helm.merged_values(values, sets), yes=yes, say=say)
        release, objects, merged_values = _render(kube, *submission, values, sets, env)
        _check_location(run_location, location.location_of_objects(objects))
        launch = _next_launch(submission.launch, submit.make_launch(release, merged_values))
        _create(kube, remote_run, Submission(launch, release.run_file, remove_secrets(merged_values)), objects, say)
    say(f"resumed run {run} from its newest commit: created again from {run_location.uri}")


def _next_launch(former: Launch, launch: Launch) -> Launch:
    return replace(launch, former=(*former.former, former.submission))


def _create(
    kube: Kube, remote_run: RemoteRun, submission: Submission, objects: Sequence[Object], say: submit.Say
) -> None:
    """Create the run's objects anew, and record that in its storage and in the cluster."""
    run = remote_run.run
    submit.check_secret(kube, objects)
    _check_objects(kube, run, objects)
    control.delete_rayjob(kube, run, say=say)
    _wait_until_removed(kube, run, objects)
    submit.check_admission(kube, objects, say)
    remote_run.clear_stop()
    remote_run.write_values(submission.values)
    remote_run.write_run_file(submission.run_file)
    remote_run.record_resubmission(submission.launch)
    submit.create_objects(kube, objects)
    submit.keep_submission(kube, submission, objects, say)


def _choose(
    run: str, own: Submission | None, remote_run: RemoteRun, values: Mapping[str, Any], *, yes: bool, say: submit.Say
) -> Submission:
    """Return what the run is created with: what the cluster has (`own`), or the storage if that gives no other rights.

    Args:
        values: the user's merged values.
        yes: take what the storage says.

    Raises:
        InputError: the storage gives the run rights that the user's values do not.
    """
    if own:
        with suppress(TrainerError):  # a storage without it, or one that is damaged, changes nothing
            for line in changes(remote_run.read_launch(), own):
                say(f"not as submitted, and not used: {line}")
        return own._replace(launch=replace(own.launch, run=run))
    stored = remote_run.read_launch()
    lines = differences(stored, values, loads(stored.run_file, file=f"{run}/{RUN_FILE}"))
    for line in lines:
        say(f"only the storage says: {line}")
    if lines and not yes:
        raise InputError(
            f"run {run}: the cluster has no record that you submitted it, and its storage, which every run of the same "
            f"keys can write to, gives it what your values do not ({len(lines)} lines above); give the values that it "
            "was submitted with (-f FILE), or accept what the storage says: --yes"
        )
    return stored._replace(launch=replace(stored.launch, run=run))


def _check_location(known: location.RunLocation, rendered: location.RunLocation) -> None:
    """Check that the run is created where its records were found: a RayJob's annotations may name another storage."""
    if rendered.uri and rendered.uri.rstrip("/") != known.uri.rstrip("/"):
        raise InputError(
            f"run {known.run} was found in {known.uri}, but its values keep it in {rendered.uri}; give the values that "
            "it was submitted with: -f FILE"
        )


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
        return release, manifests.load_objects(helm.template(release)), merged_values


def _check_objects(kube: Kube, run: str, objects: Sequence[Object]) -> None:
    """Raise InputError if an object of these names exists that is not the run's; nothing has been changed yet."""
    for kind, name in _removed(objects):
        with suppress(NotFoundError):
            submitted.check_of_run(kube.get(kind, name), kind, run)


def _wait_until_removed(kube: Kube, run: str, objects: Sequence[Object]) -> None:
    """Wait until garbage collection has deleted the run's former objects; delete those that have no owner."""
    deadline = time.monotonic() + REMOVAL_TIMEOUT_S
    for kind, name in _removed(objects):
        while True:
            try:
                obj = kube.get(kind, name)
                submitted.check_of_run(obj, kind, run)
                if not obj["metadata"].get("ownerReferences"):
                    kube.delete(kind, name)
            except NotFoundError:
                break
            if time.monotonic() > deadline:
                problem = f"{kind} {name} of the former run still exists after {REMOVAL_TIMEOUT_S:.0f} s"
                raise TrainerError(f"{problem}; delete it")
            time.sleep(0.5)


def _removed(objects: Sequence[Object]) -> list[tuple[str, str]]:
    """Return (kind, name) of what is created anew; a volume's claim stays."""
    return [(obj["kind"], obj["metadata"]["name"]) for obj in objects if obj["kind"] != submit.RETAINED_KIND]
