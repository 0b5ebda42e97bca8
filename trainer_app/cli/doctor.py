"""`trainer doctor`: what a run on Kubernetes needs, before one is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trainer_app.cli.connect import notify
from trainer_app.cli.options import Context, Endpoint, Image, Namespace, Sets, Strings, Values, join_sets
from trainer_app.formatting import one_line

if TYPE_CHECKING:
    from trainer_app.launch.finding import Finding

InCluster = Annotated[
    bool,
    typer.Option("--in-cluster", help="Check also from a pod with a run's image, Secret, service account and policy."),
]
Deadline = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How long the pod of --in-cluster may take.")]


def doctor(
    values: Values = None,
    sets: Sets = None,
    strings: Strings = None,
    namespace: Namespace = None,
    context: Context = None,
    endpoint: Endpoint = None,
    image: Image = None,
    in_cluster: InCluster = False,
    deadline: Deadline = 60.0,
) -> int:
    """Check operator, permissions, GPUs and storage for runs with these values. Exit code 1 if a run would fail."""
    from trainer_app.launch import doctor as checks
    from trainer_app.launch import doctor_pod, helm, location
    from trainer_app.launch.kube import connect

    values, sets = values or [], join_sets(sets, strings)
    kube = connect(namespace, context)
    failed = False
    for finding in checks.run_checks(kube, values, sets, endpoint):
        failed |= _print_finding(finding)
    if in_cluster:
        if image:
            helm.split_image(image)
        objects = location.render_sample(kube, values, sets, name=checks.probe_name())
        for finding in doctor_pod.run_probe(kube, objects, deadline=deadline, image=image or "", say=notify):
            failed |= _print_finding(finding)
    return int(failed)


def _print_finding(finding: Finding) -> bool:
    """Print what a check found; return whether a run would fail."""
    print(f"{finding.level:<5} {finding.check}: {one_line(finding.message)}", flush=True)
    return finding.level == "fail"
