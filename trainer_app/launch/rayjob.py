"""What a RayJob's status says, in the words of the verbs."""

from __future__ import annotations

from typing import Final

from trainer_app.launch.kube import Object

ENDED: Final = ("Complete", "Failed", "ValidationFailed", "Suspended")
QUEUE: Final = "kueue.x-k8s.io/queue-name"


def status(job: Object) -> str:
    """KubeRay's `jobDeploymentStatus`; New where the operator has not acted yet: on a new run, or on a resumed one.

    Between `resume` and the operator's next look KubeRay still says Suspended; taken at its word, that would be the
    end of a run that goes on.
    """
    told = job.get("status", {}).get("jobDeploymentStatus") or "New"
    return "New" if told == "Suspended" and not job["spec"].get("suspend") else str(told)


def ended(job: Object) -> bool:
    return status(job) in ENDED


def queued(job: Object) -> bool:
    """Held back by Kueue: it suspends what it has not admitted."""
    return QUEUE in job["metadata"].get("labels", {}) and bool(job["spec"].get("suspend"))


def state(job: Object) -> str:
    """`run x: Failed (FAILED): AppFailed: ...`"""
    known = job.get("status", {})
    result = f" ({known['jobStatus']})" if known.get("jobStatus") else ""
    told = [known[key] for key in ("reason", "message") if known.get(key)] if ended(job) else []
    why = ": ".join(words for words in told if words != status(job))
    return f"run {job['metadata']['name']}: {status(job)}{result}{f': {why}' if why else ''}"


def exit_code(job: Object) -> int:
    """0 SUCCEEDED, 1 FAILED, 130 STOPPED or suspended."""
    result = job.get("status", {}).get("jobStatus")
    if status(job) == "Suspended" or result == "STOPPED":
        return 130
    return 0 if status(job) == "Complete" and result == "SUCCEEDED" else 1


def retry(job: Object) -> str:
    """`attempt 2 of 4`, or "" where nothing has failed."""
    failed = int(job.get("status", {}).get("failed") or 0)
    if not failed:
        return ""
    limit = int(job["spec"].get("backoffLimit") or 0) + 1
    return f"attempt {min(failed + (0 if ended(job) else 1), limit)} of {limit}"


def suspendable(job: Object) -> str:
    """Why KubeRay would refuse to suspend it, which ends a run for good (ValidationFailed); "" if it would not."""
    spec = job["spec"]
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
    job = spec.get("jobTemplate", spec)
    return job.get("spec", job).get("rayClusterSpec") or {}
