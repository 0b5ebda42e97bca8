"""What the Helm release of a new run is made of: its run file, its namespace and its user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer_app.config import RunConfig, dump, scaling_differs
from trainer_app.errors import InputError, TrainerError
from trainer_app.launch.kube import connect


def run_file_text(config: RunConfig, files: Sequence[str], overrides: Sequence[str]) -> str:
    """Return the run file that a run is submitted with.

    One file without overrides is passed on byte for byte; otherwise what files and overrides make together. So is a
    file whose workers follow from Lightning's own keys: the chart compares them with the pools, and reads `scaling`
    alone.

    Args:
        config: what the files and overrides say.
        files, overrides: as `trainer submit` got them.
    """
    if len(files) == 1 and not overrides:
        text = Path(files[0]).read_text(encoding="utf-8")
        if not scaling_differs(config, text):
            return text
    return dump(config)


def namespace_and_user(namespace: str | None, context: str | None, *, say: Callable[[str], None]) -> tuple[str, str]:
    """Return the namespace and the user of a dry run: those of a real submission, or what is known without a cluster.

    Args:
        namespace, context: as the options of `trainer submit`.
        say: takes a note about what could not be found out.

    Raises:
        InputError: the context that was named does not exist.
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
