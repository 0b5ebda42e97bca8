"""What a RayJob's status says, in the words of the verbs."""

from __future__ import annotations

from typing import Final

from trainer_app.launch.kube import Object

ENDED: Final = ("Complete", "Failed", "ValidationFailed", "Suspended")
QUEUE: Final = "kueue.x-k8s.io/queue-name"


def status(rayjob: Object) -> str:
    """KubeRay's `jobDeploymentStatus`; New where the operator has not acted yet: on a new run, or on a resumed one.

    Between `resume` and the operator's next look KubeRay still says Suspended; taken at its word, that would be the
    end of a run that goes on.
    """
    told = rayjob.get("status", {}).get("jobDeploymentStatus") or "New"
    return "New" if told == "Suspended" and not rayjob["spec"].get("suspend") else str(told)


def has_ended(rayjob: Object) -> bool:
    return status(rayjob) in ENDED


def is_queued(rayjob: Object) -> bool:
    """Held back by Kueue: it suspends what it has not admitted."""
    return QUEUE in rayjob["metadata"].get("labels", {}) and bool(rayjob["spec"].get("suspend"))


def format_state(rayjob: Object) -> str:
    """`run x: Failed (FAILED): AppFailed: ...`"""
    known = rayjob.get("status", {})
    result = f" ({known['jobStatus']})" if known.get("jobStatus") else ""
    told = [known[key] for key in ("reason", "message") if known.get(key)] if has_ended(rayjob) else []
    why = ": ".join(words for words in told if words != status(rayjob))
    return f"run {rayjob['metadata']['name']}: {status(rayjob)}{result}{f': {why}' if why else ''}"


def exit_code(rayjob: Object) -> int:
    """0 SUCCEEDED, 1 FAILED, 130 STOPPED or suspended."""
    result = rayjob.get("status", {}).get("jobStatus")
    if status(rayjob) == "Suspended" or result == "STOPPED":
        return 130
    return 0 if status(rayjob) == "Complete" and result == "SUCCEEDED" else 1


def format_retry(rayjob: Object) -> str:
    """`attempt 2 of 4`, or "" where nothing has failed."""
    failed = int(rayjob.get("status", {}).get("failed") or 0)
    if not failed:
        return ""
    limit = int(rayjob["spec"].get("backoffLimit") or 0) + 1
    return f"attempt {min(failed + (0 if has_ended(rayjob) else 1), limit)} of {limit}"


def why_not_suspendable(rayjob: Object) -> str:
    """Why KubeRay would refuse to suspend it, which ends a run for good (ValidationFailed); "" if it would not."""
    spec = rayjob["spec"]
    if spec.get("clusterSelector"):
        return "it runs on a cluster that is not its own"
    if not spec.get("shutdownAfterJobFinishes"):
        return "it was submitted as not stoppable (lifetime.stoppable: false)"
    return ""


def cluster_spec(owner: Object) -> Object:
    """The RayClusterSpec in a RayJob, a RayCronJob or a RayCluster; empty where it runs on another's cluster."""
    spec = owner["spec"]
    if "headGroupSpec" in spec:
        return spec
    rayjob = spec.get("jobTemplate", spec)
    return rayjob.get("spec", rayjob).get("rayClusterSpec") or {}
