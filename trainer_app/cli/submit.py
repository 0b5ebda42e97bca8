"""`trainer submit`: a run file and values become a run on Kubernetes."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer_app.cli.connect import notify, print_line
from trainer_app.cli.options import (
    Code,
    Context,
    Endpoint,
    Env,
    Follow,
    Image,
    Include,
    Name,
    Namespace,
    Sets,
    Strings,
    SubmitItems,
    SubmitTask,
    Values,
    join_sets,
)
from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import command
from trainer_app.machine import temporary_environment
from trainer_app.run.request import RunRequest, prepare_run, split_items

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trainer_app.launch.helm import Release
    from trainer_app.launch.kube import Kube
    from trainer_app.launch.pack import CodeArchive

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be created, and create nothing.")]
Rehearse = Annotated[
    bool, typer.Option("--rehearse", help="First `validate --run` here; if that fails, nothing is created.")
]


def submit(
    task: SubmitTask,
    items: SubmitItems = None,
    values: Values = None,
    sets: Sets = None,
    strings: Strings = None,
    name: Name = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    code: Code = None,
    include: Include = None,
    image: Image = None,
    env: Env = None,
    rehearse: Rehearse = False,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> int:
    """Create the objects of a new run on a Kubernetes cluster. Exit codes with --follow: those of `trainer wait`."""
    from trainer_app.launch import submit as launch
    from trainer_app.launch.kube import connect

    variables, packed = read_variables(env), pack_code(code, include, list_names=dry_run)
    given: dict[str, Any] = {"values": values or (), "sets": join_sets(sets, strings), "image": image}
    given |= {"code": packed.digest if packed else "", "env": variables}
    if task in ("test", "predict") and not rehearse:
        where = {"namespace": namespace, "context": context, "endpoint": endpoint}
        return submit_after(task, items or (), name, given, packed, where, dry_run=dry_run, follow=follow)
    request = RunRequest(task, items or (), name)
    if rehearse:
        rehearse_here(request, code, variables)
    build = partial(build_release, request, **given)
    if dry_run:
        return print_objects(build, namespace, context)
    kube = connect(namespace, context)
    release = build(namespace=kube.namespace, user=kube.user())
    launch.submit(kube, release, packed, say=notify, endpoint=endpoint)
    notify_of_submission(release.name, kube.namespace, packed)
    return follow_submitted(kube, release.name, endpoint) if follow else 0


def print_objects(build: Callable[..., Release], namespace: str | None, context: str | None) -> int:
    """Print what would be created, also without a cluster."""
    from trainer_app.launch import helm
    from trainer_app.launch.release import namespace_and_user

    namespace, user = namespace_and_user(namespace, context, say=notify)
    print(helm.template(build(namespace=namespace, user=user)), end="")
    return 0


def submit_after(
    task: str,
    words: Sequence[str],
    name: str | None,
    given: Mapping[str, Any],
    packed: CodeArchive | None,
    where: Mapping[str, str | None],
    *,
    dry_run: bool,
    follow: bool,
) -> int:
    """Create the job of a task that is about a run, test or predict.

    Args:
        words: RUN, run files, overrides, and the options of the verb in the pod.
        given: values, sets, image, code and env, as `after.after_release` takes them.
        where: namespace, context and endpoint.
    """
    from trainer_app.launch import after, helm
    from trainer_app.launch.kube import connect

    request = after.read_request(task, words, name)
    after.check_options(task, parse_arguments(task, request.arguments))
    kube = connect(where["namespace"], where["context"])
    with after.after_release(kube, request, **given) as release:
        if dry_run:
            print(helm.template(release), end="")
            return 0
        after.create(kube, request.run, release, packed, say=notify, endpoint=where["endpoint"])
    notify_of_submission(release.name, kube.namespace, packed)
    return follow_submitted(kube, release.name, where["endpoint"], results=False) if follow else 0


def parse_arguments(task: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of a verb by name, as its own command line reads them; a usage error is that verb's."""
    from trainer_app.cli.app import trainer

    group = trainer()
    return dict(group.get_command(group.context_class(group), task).make_context(task, list(arguments)).params)


def rehearse_here(request: RunRequest, code: str | None, variables: Mapping[str, str]) -> None:
    """Rehearse what is submitted, on this machine, and print what was done.

    Args:
        code: the folder of --code, None if the code is in the image and can be imported here too.
        variables: of --env.

    Raises:
        InputError: as `prepare_run`. TrainerError: what the run would end with.
    """
    from trainer_app.cli.rehearse import describe, rehearse

    if request.task not in ("train", "tune"):
        raise InputError("--rehearse is for train and tune: a test and a prediction have no run file to rehearse")
    prepare_run(request, env={})  # what is wrong with the request itself is said at once
    files, overrides = split_items(request.items)
    with temporary_environment(variables):
        done = rehearse(files, overrides, option="--rehearse", task=request.task, code=code, remote=True)
    for line in describe(done):
        notify(line)


def read_variables(env: Sequence[str] | None) -> dict[str, str]:
    """Return the variables of --env, and print their names; raise InputError if one is not allowed or not set."""
    from trainer_app.launch.variables import describe_variables, parse_variables

    variables = parse_variables(env or (), os.environ)
    for line in describe_variables(variables):
        notify(line)
    return variables


def pack_code(code: str | None, include: Sequence[str] | None, *, list_names: bool = False) -> CodeArchive | None:
    """Return the archive of --code, and print what is not in it; None without --code.

    Args:
        list_names: whether to print the names of its files too.

    Raises:
        InputError: --include without --code, or the folder can't be packed.
        TrainerError: git is missing, or fails.
    """
    from trainer_app.launch.pack import pack

    if code is None:
        if include:
            raise InputError("--include goes with --code DIR only")
        return None
    packed = pack(code, include or ())
    for line in (*packed.notes, *(f"code: {name}" for name in packed.names if list_names)):
        notify(line)
    return packed


def build_release(request: RunRequest, **given: Any) -> Release:
    """Return the release of a new run; warn of what looks like a secret in its run file.

    Args:
        given: as `release.new_release` takes it.
    """
    from trainer_app.launch.release import new_release
    from trainer_app.launch.variables import warn_of_secrets

    release = new_release(request, **given)
    for line in warn_of_secrets(release.run_file):
        notify(line)
    return release


def notify_of_submission(run: str, namespace: str, packed: CodeArchive | None) -> None:
    """Print what was submitted, and what was uploaded of --code."""
    if packed:
        notify(f"code: {len(packed.names)} files, {packed.size / 1024:.0f} kB, sha256 {packed.digest[:12]}")
    notify(f"submitted run {run} to namespace {namespace}")


def follow_submitted(kube: Kube, run: str, endpoint: str | None, *, results: bool = True) -> int:
    """Show a run's log until it ends, then its results; return the exit code of `trainer wait`.

    Args:
        endpoint: the storage's address from this machine; None for the pods' own, a Service's by a port-forward.
        results: whether it has any: what a test or a prediction says is in its log.
    """
    from trainer_app.cli.results import show_submitted
    from trainer_app.launch.follow import follow_run

    try:
        code = follow_run(kube, run, say=notify, show=print_line, endpoint=endpoint)
    except KeyboardInterrupt:
        see = command("trainer", "results", run, "-n", kube.namespace)
        notify(f"the run continues without this command; its results: {see}")
        raise
    print()
    if not results:
        return code
    try:
        show_submitted(kube, run, endpoint=endpoint)
    except TrainerError as error:  # nothing written, a volume, a storage that is away: the exit code is the run's
        notify(f"no results to show: {error}")
    return code
