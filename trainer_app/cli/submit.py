"""`trainer render` and `trainer submit train|tune`: a run file and values become the objects of one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer_app.cli import arguments
from trainer_app.cli.formatting import command
from trainer_app.cli.options import Context, Endpoint, Image, Items, Name, Namespace, Sets, Values
from trainer_app.cli.remote import say
from trainer_app.errors import InputError, TrainerError

if TYPE_CHECKING:
    from trainer_app.launch.helm import Release
    from trainer_app.launch.kube import Kube
    from trainer_app.launch.pack import CodeArchive

Task = Annotated[Literal["train", "tune"], typer.Argument(metavar="train|tune", help="What to do with the run file.")]
Code = Annotated[
    str | None, typer.Option(metavar="DIR", help="Your modules: what git would not ignore goes along, and is imported.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be created, and create nothing.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show the driver's log until the run ends, then its results.")]


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

    packed = pack(code) if code else None
    print(helm.template(_release(task, items, values, sets, name, namespace or "default", image, packed)), end="")


def submit(
    task: Task,
    items: Items = None,
    values: Values = None,
    sets: Sets = None,
    name: Name = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    code: Code = None,
    image: Image = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> int:
    """Create the objects of a new run on a Kubernetes cluster. Exit codes with --follow: those of `trainer wait`."""
    from trainer_app.launch import helm
    from trainer_app.launch import submit as launch
    from trainer_app.launch.kube import connect
    from trainer_app.launch.pack import pack

    packed = pack(code) if code else None
    if dry_run:
        where, user = _as_submitted(namespace, context)
        print(helm.template(_release(task, items, values, sets, name, where, image, packed, user)), end="")
        return 0
    kube = connect(namespace, context)
    release = _release(task, items, values, sets, name, kube.namespace, image, packed, kube.user())
    launch.submit(kube, release, packed, say=say, endpoint=endpoint)
    if packed:
        say(f"code: {len(packed.names)} files, {packed.size / 1024:.0f} kB, sha256 {packed.digest[:12]}")
    say(f"submitted run {release.name} to namespace {kube.namespace}")
    return _follow(kube, release.name, endpoint) if follow else 0


def _as_submitted(namespace: str | None, context: str | None) -> tuple[str, str]:
    """(namespace, user) of a dry run: the cluster's, as submit has them; where none answers, what is known without.

    Raises:
        InputError: there is no such context, which was asked for.
    """
    from trainer_app.launch.kube import connect

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


def _release(
    task: str,
    items: list[str] | None,
    values: list[str] | None,
    sets: list[str] | None,
    name: str | None,
    namespace: str,
    image: str | None = None,
    packed: CodeArchive | None = None,
    user: str = "",
) -> Release:
    from trainer_app.launch.helm import Release
    from trainer_app.launch.submit import make_submission

    # env={}: this machine's own storage and run are not the cluster's
    prepared = arguments.prepare(arguments.Asked(task, items or (), name), env={})
    text = _text(prepared, items or [])
    return Release(
        prepared.name,
        namespace,
        task,
        text,
        make_submission(prepared.name),
        tuple(values or ()),
        tuple(sets or ()),
        image=image or "",
        code=packed.digest if packed else "",
        user=user,
    )


def _text(prepared: arguments.Prepared, items: list[str]) -> str:
    """One run file without overrides crosses byte for byte; else what they make together.

    So does one whose workers follow from Lightning's words: the chart, which holds them against the pools, reads
    `scaling` alone.
    """
    from trainer_app.config import dump, scaling_differs

    files, overrides = arguments.split(items)
    if len(files) == 1 and not overrides:
        text = Path(files[0]).read_text(encoding="utf-8")
        if not scaling_differs(prepared.config, text):
            return text
    return dump(prepared.config)


def _follow(kube: Kube, run: str, endpoint: str | None) -> int:
    from trainer_app.cli.results import show_submitted
    from trainer_app.launch.follow import follow_run

    try:
        code = follow_run(kube, run, say=say, show=lambda line: print(line, flush=True), endpoint=endpoint)
    except KeyboardInterrupt:
        say(f"the run goes on without this command; {command('trainer', 'results', run, '-n', kube.namespace)}")
        raise
    print()
    try:
        show_submitted(kube, run, endpoint=endpoint)
    except TrainerError as error:  # nothing written, a volume, a storage that is away: how it ended is what counts
        say(f"no results to show: {error}")
    return code
