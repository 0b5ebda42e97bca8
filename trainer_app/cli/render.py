"""`trainer render`: the Kubernetes objects of a run, from its run file and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer_app.cli.options import Code, Image, Items, Name, Namespace, Sets, Task, Values
from trainer_app.run.request import RunRequest, prepare_run, split_items

if TYPE_CHECKING:
    from trainer_app.launch.helm import Release


def render(
    task: Task,
    items: Items = None,
    values: Values = None,
    sets: Sets = None,
    name: Name = None,
    namespace: Namespace = None,
    code: Code = None,
    image: Image = None,
) -> None:
    """Print the objects of a run; needs helm, and no cluster."""
    from trainer_app.launch import helm
    from trainer_app.launch.pack import pack

    digest = pack(code).digest if code else ""
    release = build_release(task, items, values, sets, name, namespace or "default", image=image, code=digest)
    print(helm.template(release), end="")


def build_release(
    task: str,
    items: list[str] | None,
    values: list[str] | None,
    sets: list[str] | None,
    name: str | None,
    namespace: str,
    *,
    image: str | None = None,
    code: str = "",
    user: str = "",
) -> Release:
    """Return the Helm release of a new run: what the command line says, checked, under a new submission id.

    Args:
        task, items, values, sets, name, image: as the options of `trainer submit`.
        namespace, user: where the run is submitted, and by whom.
        code: the digest of the user's packed modules, if there are any.

    Raises:
        ConfigError, InputError: the run file or the name is wrong.
    """
    from trainer_app.launch.helm import Release
    from trainer_app.launch.release import run_file_text
    from trainer_app.launch.submit import make_submission

    # env={}: this machine's own storage and run are not the cluster's
    prepared = prepare_run(RunRequest(task, items or (), name), env={})
    text = run_file_text(prepared.config, *split_items(items or []))
    submission, image = make_submission(prepared.name), image or ""
    return Release(
        prepared.name, namespace, task, text, submission, tuple(values or ()), tuple(sets or ()), image, code, user
    )
