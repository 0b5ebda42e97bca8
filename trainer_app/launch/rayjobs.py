"""What a RayJob's spec and status say about a run."""

from __future__ import annotations

from typing import Final

from trainer_app.launch.kube import Object

ENDED: Final = ("Complete", "Failed", "ValidationFailed", "Suspended")
# Reasons that KubeRay never retries, whatever is left of backoffLimit, and what they mean.
_NOT_RETRIED: Final = {
    "DeadlineExceeded": "lifetime.activeDeadlineSeconds is over",
    "JobStatusCheckTimeoutExceeded": "the operator got no answer from the head about the job for the seconds of its "
    "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS (300)",
}
QUEUE: Final = "kueue.x-k8s.io/queue-name"


def status(rayjob: Object) -> str:
    """Return KubeRay's `jobDeploymentStatus`; New if the operator has not acted yet on a new or a resumed run.

    Between `resume` and the operator's next reconciliation KubeRay still says Suspended, which would read as an end.
    """
    reported = rayjob.get("status", {}).get("jobDeploymentStatus") or "New"
    return "New" if reported == "Suspended" and not rayjob["spec"].get("suspend") else str(reported)


def has_ended(rayjob: Object) -> bool:
    """Return whether KubeRay does nothing more for it, unless it is resumed."""
    return status(rayjob) in ENDED


def is_queued(rayjob: Object) -> bool:
    """Return whether it waits for Kueue, which suspends what it has not admitted."""
    return QUEUE in rayjob["metadata"].get("labels", {}) and bool(rayjob["spec"].get("suspend"))


def format_state(rayjob: Object) -> str:
    """`run x: Failed (FAILED): AppFailed: ...`"""
    reported = rayjob.get("status", {})
    result = f" ({reported['jobStatus']})" if reported.get("jobStatus") else ""
    reasons = [reported[key] for key in ("reason", "message") if reported.get(key)] if has_ended(rayjob) else []
    why = ": ".join([*(reason for reason in reasons if reason != status(rayjob)), *explain_reason(rayjob)])
    return f"run {rayjob['metadata']['name']}: {status(rayjob)}{result}{f': {why}' if why else ''}"


def explain_reason(rayjob: Object) -> list[str]:
    """Return what a reason means that KubeRay does not retry, and what to do, in one string; [] for other reasons."""
    reason = rayjob.get("status", {}).get("reason", "")
    if reason not in _NOT_RETRIED or not has_ended(rayjob):
        return []
    return [f"{_NOT_RETRIED[reason]}; KubeRay does not retry that: trainer resume {rayjob['metadata']['name']}"]


def exit_code(rayjob: Object) -> int:
    """Return 0 for SUCCEEDED, 1 for FAILED, 130 for STOPPED or suspended."""
    result = rayjob.get("status", {}).get("jobStatus")
    if status(rayjob) == "Suspended" or result == "STOPPED":
        return 130
    return 0 if status(rayjob) == "Complete" and result == "SUCCEEDED" else 1


def format_retry(rayjob: Object) -> str:
    """`attempt 2 of 4`, or "" if nothing has failed."""
    failed = int(rayjob.get("status", {}).get("failed") or 0)
    if not failed or explain_reason(rayjob):  # no "1 of 4" of attempts that are not made
        return ""
    limit = max(int(rayjob["spec"].get("backoffLimit") or 0) + 1, failed)  # less: the submitter has ended the retries
    return f"attempt {min(failed + (0 if has_ended(rayjob) else 1), limit)} of {limit}"


def why_not_suspendable(rayjob: Object) -> str:
    """Return why suspending it would end the run for good (ValidationFailed), or "" if it can be suspended."""
    spec = rayjob["spec"]
    if spec.get("clusterSelector"):
        return "it runs on the RayCluster of another release"
    if not spec.get("shutdownAfterJobFinishes"):
        return "it was submitted with lifetime.stoppable: false"
    return ""


def cluster_spec(owner: Object) -> Object:
    """Return the RayClusterSpec of a RayJob, RayCronJob or RayCluster; empty if it uses another release's cluster."""
    spec = owner["spec"]
    if "headGroupSpec" in spec:
        return spec
    template = spec.get("jobTemplate", spec)
    return template.get("spec", template).get("rayClusterSpec") or {}
