"""KubeRay's validation, as far as the chart's values reach it: one row a rule.

Of ray-operator v1.6.0, controllers/ray/utils/validation.go, and the CRDs' own schema. For each: the values with which
the chart refuses it, and the same thing done to a good object past the chart, which the operator must refuse. Rules
that no value reaches are at the end, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A rule of the operator's.

    Args:
        name: what it says, in short.
        kind: of the object that breaks it.
        good: values that render an object to be broken.
        sets: values with which the chart would break it.
        ours: the chart's words (a regular expression).
        path, value: what to set in the good object to break it past the chart; None takes the key away.
        theirs: the operator's words, in a status or an event, or the API server's.
    """

    name: str
    kind: str
    sets: Sequence[str]
    ours: str
    path: str
    value: Any
    theirs: str
    good: Sequence[str] = ()
    run: str = "demo"

    def broken(self, thing: Any) -> Any:
        """A copy of a good object that breaks this rule."""
        copy = deepcopy(thing)
        at = copy
        *parents, last = self.path.split("/")
        for key in parents:
            at = at[int(key)] if key.isdigit() else at.setdefault(key, {})
        if self.value is None:
            at.pop(last, None)
        else:
            at[int(last) if last.isdigit() else last] = self.value
        return copy


GROW = "autoscaling.enabled=true"
CRON = ("kind=RayCronJob", "cron.schedule=@daily")
POOL = "spec/rayClusterSpec/workerGroupSpecs/0"
HEAD_ENV = "spec/rayClusterSpec/headGroupSpec/template/spec/containers/0/env/0"
LONG = "n" * 48  # KubeRay takes 47 for a RayJob
LONGER = "n" * 54

RULES = [
    Rule(
        "RayJob names of 47", "RayJob", (), "48 characters; at most 44", "metadata/name", LONG, "no more than 47",
        run=LONG,
    ),
    Rule(
        "RayJob names are DNS-1035", "RayJob", (), "begins with a letter", "metadata/name", "1st", "DNS1035",
        run="1st",
    ),
    Rule(
        "RayCluster names of 53", "RayCluster", ("kind=RayCluster",), "at most 44|release name",  # Helm itself takes 53
        "metadata/name", LONGER, "no more than 53", ("kind=RayCluster",), LONGER,
    ),
    Rule(
        "RayCluster names are DNS-1035", "RayCluster", ("kind=RayCluster",), "begins with a letter",
        "metadata/name", "1st", "DNS1035", ("kind=RayCluster",), "1st",
    ),
    Rule(
        "minReplicas below zero", "RayJob", (GROW, "pools.cpu.minReplicas=-1"), "values.*minReplicas",
        f"{POOL}/minReplicas", -1, "negative minReplicas",
    ),
    Rule(
        "maxReplicas below zero", "RayJob", (GROW, "pools.cpu.maxReplicas=-1"), "values.*maxReplicas",
        f"{POOL}/maxReplicas", -1, "negative maxReplicas",
    ),
    Rule(
        "minReplicas over maxReplicas", "RayJob", (GROW, "pools.cpu.minReplicas=3", "pools.cpu.maxReplicas=2"),
        r"minReplicas \(3\) is greater than its maxReplicas \(2\)", f"{POOL}/minReplicas", 99,
        "greater than maxReplicas",
    ),
    Rule(
        "a pool's idle timeout without autoscaler v2", "RayJob", ("pools.cpu.idleTimeoutSeconds=9",),
        "idleTimeoutSeconds is 9, but autoscaling.enabled is false", f"{POOL}/idleTimeoutSeconds", 9,
        "autoscaler v2 is not enabled",
    ),
    Rule(
        "a pool's idle timeout below zero", "RayJob", (GROW, "pools.cpu.idleTimeoutSeconds=-1"),
        "values.*idleTimeoutSeconds", f"{POOL}/idleTimeoutSeconds", -1, "must be non-negative", (GROW,),
    ),
    Rule(
        "the idle timeout below zero", "RayJob", (GROW, "autoscaling.idleTimeoutSeconds=-1"),
        "values.*idleTimeoutSeconds", "spec/rayClusterSpec/autoscalerOptions/idleTimeoutSeconds", -1,
        "must be non-negative", (GROW,),
    ),
    Rule(
        "an upscaling mode that is none", "RayJob", (GROW, "autoscaling.upscalingMode=Fast"), "values:.*upscalingMode",
        "spec/rayClusterSpec/autoscalerOptions/upscalingMode", "Fast", "upscalingMode", (GROW,),
    ),
    Rule(
        "autoscaler v2 by environment", "RayJob", ("head.env[0].name=RAY_enable_autoscaler_v2", "head.env[0].value=x"),
        "head.env sets RAY_enable_autoscaler_v2", HEAD_ENV, {"name": "RAY_enable_autoscaler_v2", "value": "1"},
        "enableInTreeAutoscaling is false",
    ),
    Rule(
        "autoscaler v2 by environment and option", "RayJob", (GROW, "head.env[0].name=RAY_enable_autoscaler_v2"),
        "head.env sets RAY_enable_autoscaler_v2", HEAD_ENV, {"name": "RAY_enable_autoscaler_v2", "value": "1"},
        "only use the former", (GROW,),
    ),
    Rule(
        "Redis by environment", "RayJob", ("head.env[0].name=RAY_REDIS_ADDRESS",), "head.env sets RAY_REDIS_ADDRESS",
        HEAD_ENV, {"name": "RAY_REDIS_ADDRESS", "value": "x:1"}, "GcsFaultToleranceOptions is not set",
    ),
    Rule(
        "a Redis user by environment", "RayJob", ("head.env[0].name=REDIS_USERNAME",), "head.env sets REDIS_USERNAME",
        HEAD_ENV, {"name": "REDIS_USERNAME", "value": "x"}, "cannot set redis username",
    ),
    Rule(
        "suspended and never shut down", "RayJob", ("lifetime.suspend=true", "lifetime.stoppable=false"),
        "lifetime.suspend needs lifetime.stoppable", "spec/suspend", True, "not allowed to be suspended",
        ("lifetime.stoppable=false",),
    ),
    Rule(
        "suspended on another's cluster", "RayJob", ("lifetime.suspend=true", "clusterSelector=big"),
        "suspend and clusterSelector exclude", "spec/suspend", True, "suspend", ("clusterSelector=big",),
    ),
    Rule(
        "a TTL below zero", "RayJob", ("lifetime.ttlSecondsAfterFinished=-1",), "values.*ttlSecondsAfterFinished",
        "spec/ttlSecondsAfterFinished", -1, "must be a non-negative integer",
    ),
    Rule(
        "backoffLimit below zero", "RayJob", ("lifetime.backoffLimit=-1",), "values.*backoffLimit", "spec/backoffLimit",
        -1, "backoffLimit must be a positive integer",
    ),
    Rule(
        "activeDeadlineSeconds of zero", "RayJob", ("lifetime.activeDeadlineSeconds=0",),
        "values.*activeDeadlineSeconds", "spec/activeDeadlineSeconds", 0, "must be a positive integer",
    ),
    Rule(
        "preRunningDeadlineSeconds of zero", "RayJob", ("lifetime.preRunningDeadlineSeconds=0",),
        "values.*preRunningDeadlineSeconds", "spec/preRunningDeadlineSeconds", 0, "preRunningDeadlineSeconds",
    ),
    Rule(
        "a manager that is none", "RayJob", ("managedBy=me",), "values.*managedBy", "spec/managedBy", "me",
        "managedBy field value must be either",
    ),
    Rule(
        "a clusterSelector that names no cluster", "RayJob", ("clusterSelector=Big",), "values.*clusterSelector",
        "spec/clusterSelector", {"ray.io/cluster": ""}, "should not be empty", ("clusterSelector=big",),
    ),
    Rule(
        "a sidecar on another's cluster", "RayJob", ("clusterSelector=big", "lifetime.submissionMode=SidecarMode"),
        "SidecarMode is not offered", "spec/submissionMode", "SidecarMode", "not supported in SidecarMode",
        ("clusterSelector=big", "lifetime.submissionMode=HTTPMode"),
    ),
    Rule(
        "a sidecar and a submitter", "RayJob", ("lifetime.submissionMode=SidecarMode",), "SidecarMode is not offered",
        "spec/submissionMode", "SidecarMode", "doesn't support SubmitterPodTemplate",
    ),
    Rule(
        "retries by hand", "RayJob", ("lifetime.submissionMode=InteractiveMode",), "InteractiveMode is not offered",
        "spec/submissionMode", "InteractiveMode", "incompatible with InteractiveMode",
    ),
    Rule(
        "a schedule that is none", "RayCronJob", ("kind=RayCronJob", "cron.schedule=often"), 'cron.schedule is "often"',
        "spec/schedule", "often", "invalid cron schedule", CRON,
    ),
    Rule(
        "a schedule out of range", "RayCronJob", ("kind=RayCronJob", "cron.schedule=61 * * * *"),
        "minute .0-59.", "spec/schedule", "61 * * * *", "invalid cron schedule", CRON,
    ),
    Rule(
        "a schedule that ends before it begins", "RayCronJob", ("kind=RayCronJob", "cron.schedule=5-2 * * * *"),
        "range 5-2", "spec/schedule", "5-2 * * * *", "invalid cron schedule", CRON,
    ),
    Rule(
        "a job template that is not valid", "RayCronJob", (*CRON, "lifetime.backoffLimit=-1"), "values.*backoffLimit",
        "spec/jobTemplate/backoffLimit", -1, "invalid RayJob template", CRON,
    ),
]  # fmt: skip

UNREACHED = {
    "containers missing, replicas missing, resources beside rayStartParams, labels of groups": "the templates set them",
    "RayVersion and token authentication": "the chart's appVersion and templates",
    "Kubernetes' tokens for Ray's": "never rendered",
    "GCS fault tolerance options, redis-password": "never rendered",
    "upgradeStrategy": "never rendered",
    "runtimeEnvYAML is YAML": "made with toJson",
    "backoffLimit, deletion rules with clusterSelector": "not rendered with it",
    "deletion rules: duplicates, order, DeleteWorkers with autoscaling, shutdownAfterJobFinishes beside them":
        "derived from lifetime.stoppable; tests/chart/test_rayjob.py",
    "suspended worker groups": "never rendered",
    "restartPolicy with autoscaler v2": "never rendered on Ray pods",
}  # fmt: skip
