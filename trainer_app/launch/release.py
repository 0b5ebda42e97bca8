"""The Helm release of a new run: its run file, its namespace and its user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer_app.config import RunConfig, dump
from trainer_app.config.loader import needs_files
from trainer_app.config.models import Storage
from trainer_app.errors import InputError, TrainerError
from trainer_app.launch.helm import Release, merged_values
from trainer_app.launch.kube import connect
from trainer_app.launch.submit import make_submission
from trainer_app.run.request import RunRequest, prepare_run, split_items
from trainer_app.run_names import CRON_NAME_MAX, fit_name


def new_release(
    request: RunRequest,
    values: Sequence[str],
    sets: Sequence[str],
    namespace: str,
    *,
    image: str | None = None,
    code: str = "",
    user: str = "",
    env: Mapping[str, str] | None = None,
) -> Release:
    """Return the Helm release of a new run, which is checked first and gets a submission id.

    Args:
        values, sets: as the options --values and --set of `trainer submit`.
        image: repository:tag in place of the values' image.
        code: the digest of the user's packed code; "" if it is in the image.
        user: who submits it, by name in the cluster; "" if that is unknown.
        env: environment variables of its pods.

    Raises:
        ConfigError, InputError: the run file or the name is wrong.
    """
    prepared = prepare_run(request, env={})  # this machine's own storage and run are not the cluster's
    name, text = prepared.name, run_file_text(prepared.config, *split_items(request.items))
    if not request.name and len(name) > CRON_NAME_MAX and merged_values(values, sets).get("kind") == "RayCronJob":
        base, _, time = name.rpartition("-")
        name = f"{fit_name(base, CRON_NAME_MAX - len(time) - 1)}-{time}"
    submission, plan = make_submission(name), make_plan(prepared.config, request.task)
    names = (name, namespace, request.task, text, submission)
    return Release(*names, tuple(values), tuple(sets), image or "", code, user, plan, env or {})


def make_plan(config: RunConfig, task: str) -> dict[str, Any]:
    """Return the chart's `run.plan`: all that it needs of a run file, which is read here only."""
    scaling, uri = config.scaling, config.storage.uri
    single = task == "tune" and not config.has_nested_trials
    return {
        "workers": scaling.num_workers,
        "resources": config.trial_resources if single else scaling.worker_resources,
        "trials": (config.tune.max_concurrent_trials if config.tune else None) or 1,
        "storageUri": "" if uri == Storage().uri else uri,
    }


def run_file_text(config: RunConfig, files: Sequence[str], overrides: Sequence[str]) -> str:
    """Return the run file that a run is submitted with.

    Args:
        config: what the files and overrides say, merged.
        files, overrides: as `trainer submit` got them; one file without overrides is passed on byte for byte.
    """
    if len(files) == 1 and not overrides:
        text = Path(files[0]).read_bytes().decode()
        if not needs_files(text):
            return text
    return dump(config)


def namespace_and_user(namespace: str | None, context: str | None, *, say: Callable[[str], None]) -> tuple[str, str]:
    """Return a dry run's namespace and user, or what is known of them; raise InputError if `context` does not exist.

    Args:
        say: called with a note about what is not known without a cluster.
    """
    try:
        kube = connect(namespace, context)
    except InputError as error:
        if context:
            raise
        say(f"shown for namespace {namespace or 'default'}, without the annotation trainer/user: {error}")
        return namespace or "default", ""
    try:
        return kube.namespace, kube.user()
    except TrainerError as error:
        say(f"shown without the annotation trainer/user: {error}")
        return kube.namespace, ""
