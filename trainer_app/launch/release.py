"""The Helm release of a new run: its run file, its namespace and its user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer_app.config import RunConfig, dump, scaling_differs
from trainer_app.errors import InputError, TrainerError
from trainer_app.launch.helm import Release
from trainer_app.launch.kube import connect
from trainer_app.launch.submit import make_submission
from trainer_app.run.request import RunRequest, prepare_run, split_items


def new_release(
    request: RunRequest,
    values: Sequence[str],
    sets: Sequence[str],
    namespace: str,
    *,
    image: str | None = None,
    code: str = "",
    user: str = "",
) -> Release:
    """Return the Helm release of a new run, which is checked first and gets a submission id.

    Raises:
        ConfigError, InputError: the run file or the name is wrong.
    """
    prepared = prepare_run(request, env={})  # this machine's own storage and run are not the cluster's
    name, text = prepared.name, run_file_text(prepared.config, *split_items(request.items))
    submission = make_submission(name)
    return Release(name, namespace, request.task, text, submission, tuple(values), tuple(sets), image or "", code, user)


def run_file_text(config: RunConfig, files: Sequence[str], overrides: Sequence[str]) -> str:
    """Return the run file that a run is submitted with.

    One file without overrides is passed on byte for byte. Several files, overrides, and a file whose workers follow
    from Lightning's own keys are written as one: the chart reads only `scaling` when it compares workers with pools.
    """
    if len(files) == 1 and not overrides:
        text = Path(files[0]).read_text(encoding="utf-8")
        if not scaling_differs(config, text):
            return text
    return dump(config)


def namespace_and_user(namespace: str | None, context: str | None, *, say: Callable[[str], None]) -> tuple[str, str]:
    """Return a dry run's namespace and user, or what is known without a cluster. Raises InputError: no such context."""
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
