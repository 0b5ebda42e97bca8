"""`trainer render`: the Kubernetes objects of a run, from its run file and values."""

from __future__ import annotations

from trainer_app.cli.options import (
    Code,
    Env,
    Image,
    Include,
    Items,
    Name,
    Namespace,
    Sets,
    Strings,
    Task,
    Values,
    join_sets,
)
from trainer_app.cli.submit import build_release, pack_code, read_variables
from trainer_app.run.request import RunRequest


def render(
    task: Task,
    items: Items = None,
    values: Values = None,
    sets: Sets = None,
    strings: Strings = None,
    name: Name = None,
    namespace: Namespace = None,
    code: Code = None,
    include: Include = None,
    image: Image = None,
    env: Env = None,
) -> None:
    """Print the objects of a run; needs helm, and no cluster."""
    from trainer_app.launch import helm

    variables, packed = read_variables(env), pack_code(code, include)
    request, digest = RunRequest(task, items or (), name), packed.digest if packed else ""
    given = {"values": values or [], "sets": join_sets(sets, strings), "namespace": namespace or "default"}
    release = build_release(request, **given, image=image, code=digest, env=variables)
    print(helm.template(release), end="")
