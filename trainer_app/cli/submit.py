"""`trainer render` and `trainer submit train|tune`: a run file and values become the objects of one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer_app.cli import arguments
from trainer_app.cli.text import command, one_line

if TYPE_CHECKING:
    from trainer_app.launch.helm import Release
    from trainer_app.launch.kube import Kube

Task = Annotated[Literal["train", "tune"], typer.Argument(metavar="train|tune", help="What to do with the run file.")]
Items = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE... [KEY=VALUE...]", help="Run files, merged in order, and overrides."),
]
Values = Annotated[
    list[str] | None,
    typer.Option("--values", "-f", metavar="FILE", help="Values of the cluster: a file, or a name such as kind."),
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value, over the files.")]
Name = Annotated[str | None, typer.Option(metavar="RUN", help="The run's name [default: <name>-<UTC time>].")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", envvar="TRAINER_NAMESPACE", help="[default: the context's].")
]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Of the kubeconfig [default: the current one].")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be created, and create nothing.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show the driver's log until the run ends, then its results.")]


def render(
    task: Task,
    items: Items = None,
    values: Values = None,
    sets: Sets = None,
    name: Name = None,
    namespace: Namespace = None,
) -> None:
    """Print the objects of a run; needs helm, and no cluster."""
    from trainer_app.launch import helm

    print(helm.template(_release(task, items, values, sets, name, namespace or "default")), end="")


def submit(
    task: Task,
    items: Items = None,
    values: Values = None,
    sets: Sets = None,
    name: Name = None,
    namespace: Namespace = None,
    context: Context = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> int:
    """Create the objects of a new run on a Kubernetes cluster. Exit codes with --follow: those of `trainer wait`."""
    from trainer_app.launch import helm
    from trainer_app.launch.kube import connect
    from trainer_app.launch.submit import create, objects

    if dry_run:
        render(task, items, values, sets, name, namespace)
        return 0
    kube = connect(namespace, context)
    release = _release(task, items, values, sets, name, kube.namespace)
    create(kube, objects(helm.template(release)))
    print(f"submitted run {release.name} to namespace {kube.namespace}", file=sys.stderr)
    return _follow(kube, release.name) if follow else 0


def _release(
    task: str,
    items: list[str] | None,
    values: list[str] | None,
    sets: list[str] | None,
    name: str | None,
    namespace: str,
) -> Release:
    from trainer_app.launch.helm import Release
    from trainer_app.launch.submit import new_submission

    # env={}: this machine's own storage and run are not the cluster's
    prepared = arguments.prepare(arguments.Asked(task, items or (), name), env={})
    text = _text(prepared, items or [])
    return Release(
        prepared.name, namespace, task, text, new_submission(prepared.name), tuple(values or ()), tuple(sets or ())
    )


def _text(prepared: arguments.Prepared, items: list[str]) -> str:
    """One run file without overrides crosses byte for byte; else what they make together."""
    from trainer_app.config import dump

    files, overrides = arguments.split(items)
    if len(files) == 1 and not overrides:
        return Path(files[0]).read_text(encoding="utf-8")
    return dump(prepared.config)


def _follow(kube: Kube, run: str) -> int:
    from trainer_app.cli.results import show_submitted
    from trainer_app.launch.follow import until_end

    def say(line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)

    try:
        code = until_end(kube, run, say=say, show=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        say(f"the run goes on without this command; {command('trainer', 'results', run, '-n', kube.namespace)}")
        raise
    print()
    show_submitted(kube, run)
    return code
