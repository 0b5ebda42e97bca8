"""`trainer resume`: continue a run on Kubernetes that is not running."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer_app.cli.connect import connect_stored_run, notify
from trainer_app.cli.options import Context, Endpoint, Env, NamedRun, Namespace, Sets, Strings, Values, join_sets
from trainer_app.cli.submit import read_variables

Yes = Annotated[bool, typer.Option("--yes", help="Create it with what only its storage says: image, network, ...")]


def resume(
    run: NamedRun,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    values: Values = None,
    sets: Sets = None,
    strings: Strings = None,
    env: Env = None,
    yes: Yes = False,
) -> None:
    """Resume a run that was stopped, that failed, or whose objects are gone. Can be repeated."""
    from trainer_app.launch import control, location
    from trainer_app.launch.resubmit import resubmit

    values, sets, variables = values or [], join_sets(sets, strings), read_variables(env)
    kube, job = connect_stored_run(run, namespace, context)
    if job and control.resume(kube, job, say=notify, endpoint=endpoint):
        if variables:
            notify("the run's objects still exist, with the variables that it was submitted with: --env was not used")
        return
    where = location.location_of(job) if job else location.locate_run(kube, run, values, sets)
    resubmit(kube, where, say=notify, values=values, sets=sets, env=variables, endpoint=endpoint, yes=yes)
