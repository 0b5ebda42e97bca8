"""`trainer status`: how far a run on Kubernetes is, and what it waits for."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Annotated, Final

import typer

from trainer_app.cli.connect import connect_run
from trainer_app.cli.options import Context, Endpoint, Namespace, RemoteRun

CHANGE_S: Final = 2.0  # between two looks at least
LOOK_S: Final = 15.0  # at most: the storage says more than the cluster
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Print each change until the run ends.")]


def status(
    run: RemoteRun = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    watch: Watch = False,
) -> int:
    """Show how far a run is, and what it waits for. Exit codes: 0 while it runs, then those of `trainer wait`."""
    from trainer_app.cli.tables import show_facts
    from trainer_app.launch import cron, rayjobs, status
    from trainer_app.launch.changes import Changes

    kube, job = connect_run(run, namespace, context)
    shown: set[tuple[str, str]] = set()
    changes = Changes(kube, job["metadata"]["name"], cron.schedule_name(job), poll_s=CHANGE_S)
    with changes if watch else nullcontext():
        while True:
            facts = status.get_status(kube, job, endpoint=endpoint).lines()
            if changed := [fact for fact in facts if fact not in shown]:
                show_facts(changed)
                sys.stdout.flush()
            shown = set(facts)
            ended = rayjobs.has_ended(job) and not rayjobs.is_queued(job)
            if ended or not watch:
                return rayjobs.exit_code(job) if ended else 0
            changes.wait(LOOK_S)
            job = kube.get("RayJob", job["metadata"]["name"])
