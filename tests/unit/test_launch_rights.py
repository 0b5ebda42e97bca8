"""k8s/rbac/submitter.yaml grants what the launcher's verbs need and nothing else, and they say all that they need."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import yaml

from tests.unit.tree import ROOT
from trainer_app.errors import NotFoundError, TrainerError
from trainer_app.launch import control, resubmit, rights, submit
from trainer_app.launch.kube import KINDS, Kube
from trainer_app.launch.rights import Right

pytestmark = pytest.mark.unit
DANGEROUS = {"pods/exec", "pods/attach", "serviceaccounts/token", "escalate", "bind", "impersonate", "*"}
ROLES = ("roles", "rolebindings")


def roles() -> dict[str, Any]:
    found = yaml.safe_load_all((ROOT / "k8s/rbac/submitter.yaml").read_text())
    return {role["metadata"]["name"]: role for role in found if role}


def granted(role: Any) -> set[Right]:
    return {
        Right(verb, resource, group)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def templates() -> list[str]:
    """The kinds that the chart may make, the RayJob last. No submit makes a Secret: that is for development."""
    names = {path.stem.partition("-")[0] for path in (ROOT / "helm/trainer/templates").glob("*.yaml")}
    others = ("RayCluster", "RayCronJob", "Secret")  # the first two are installed
    found = [kind for kind in KINDS if kind.lower() in names and kind not in others]
    return sorted(found, key=lambda kind: kind == "RayJob")


@dataclass
class Recorder:
    """A cluster that takes everything, but the RayJob if that is refused, and notes what is asked of it."""

    refused: bool = False
    namespace: str = "team"
    asked: set[Right] = field(default_factory=set)
    gone: set[tuple[str, str]] = field(default_factory=set)

    def _note(self, verb: str, kind: str) -> None:
        group, plural = KINDS[kind]
        self.asked.add(Right(verb, plural, group.removeprefix("/apis/").partition("/")[0] if "apis" in group else ""))

    def create(self, thing: Any, *, dry_run: bool = False) -> Any:
        self._note("create", thing["kind"])
        assert not (dry_run and thing["kind"] == "RoleBinding"), "its Role does not exist yet"
        if thing["kind"] in rights.CREATED_OWNED and not dry_run:
            assert thing["metadata"]["ownerReferences"][0]["uid"] == "1"
        if self.refused and thing["kind"] == "RayJob" and not dry_run:
            raise TrainerError("no")
        return {**thing, "metadata": {**thing["metadata"], "uid": "1"}}

    def get(self, kind: str, name: str) -> Any:
        self._note("get", kind)
        if (kind, name) in self.gone:
            raise NotFoundError("gone")
        meta = {"name": name, "labels": {"trainer/run": "demo", "app.kubernetes.io/name": "trainer"}}
        if kind in rights.CREATED_OWNED:  # Kubernetes deletes it after its owner
            self.gone.add((kind, name))
            return {"metadata": {**meta, "ownerReferences": [{"uid": "1"}]}}
        return {"metadata": meta}

    def list(self, kind: str, *, labels: Any = None) -> list[Any]:
        self._note("list", kind)
        return []

    def patch(self, kind: str, name: str, change: Any) -> None:
        self._note("patch", kind)

    def delete(self, kind: str, name: str) -> None:
        self._note("delete", kind)
        self.gone.add((kind, name))


def made(kube: Recorder) -> None:
    things = [{"kind": kind, "metadata": {"name": "demo"}, "spec": {}} for kind in templates()]
    submit.check_admission(cast(Kube, kube), things, lambda _: None)
    with pytest.raises(TrainerError) if kube.refused else nullcontext():
        submit.create_objects(cast(Kube, kube), things)


def test_without_the_right_to_make_a_role_no_run_is_left_behind() -> None:
    class Strict(Recorder):
        def create(self, thing: Any, *, dry_run: bool = False) -> Any:
            if thing["kind"] == "Role":
                raise TrainerError("roles is forbidden")
            return super().create(thing, dry_run=dry_run)

    kube = Strict()
    things = [{"kind": kind, "metadata": {"name": "demo"}, "spec": {}} for kind in templates()]
    with pytest.raises(TrainerError, match="forbidden"):
        submit.create_objects(cast(Kube, kube), things)
    assert {("RayJob", "demo"), ("ConfigMap", "demo")} <= kube.gone


@pytest.mark.parametrize("refused", [False, True])
def test_submit_asks_for_what_it_says(refused: bool) -> None:
    kube = Recorder(refused)
    made(kube)
    said = {*rights.VERBS["submit"], *rights.rights_to_create(templates())}
    # Where a refusal leaves an empty claim behind, that is no harm: only who may delete claims takes it back.
    assert kube.asked - said <= {Right("delete", "persistentvolumeclaims")}
    # Kubernetes lets only who may patch a RayJob create a Role that may.
    unasked = {*(right for right in said if right.verb == "delete"), Right("patch", "rayjobs", "ray.io")}
    assert refused or said - kube.asked == unasked


def test_resume_asks_for_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    kube = Recorder()
    things = [{"kind": kind, "metadata": {"name": "demo"}} for kind in templates()]
    control.delete_rayjob(cast(Kube, kube), "demo", say=lambda _: None)
    resubmit._wait_until_removed(cast(Kube, kube), "demo", things)
    made(kube)
    said = {*rights.VERBS["resume"], *rights.rights_to_recreate(templates())}
    assert kube.asked - said == set()
    # In a look at the run, where it is only suspended, and where its pods are not gone yet.
    assert said - kube.asked == {Right(verb, "rayjobs", "ray.io") for verb in ("list", "patch", "watch")} | {
        Right("list", "events"),
        Right("watch", "pods"),
    }


def test_nothing_else_is_granted() -> None:
    asked = {right for verb in rights.VERBS if verb != rights.IN_CLUSTER for right in rights.VERBS[verb]}
    asked |= {*rights.rights_to_recreate(templates()), *rights.QUEUE_RIGHTS, rights.READ_SECRET}
    assert granted(roles()["trainer-submitter"]) == asked
    assert granted(roles()["trainer-doctor"]) == set(rights.VERBS[rights.IN_CLUSTER])
    assert Right("create", "pods") not in granted(roles()["trainer-submitter"])


@pytest.mark.parametrize("verb", sorted(rights.VERBS))
def test_each_verb_is_allowed(verb: str) -> None:
    role = "trainer-doctor" if verb == rights.IN_CLUSTER else "trainer-submitter"
    assert set(rights.VERBS[verb]) - granted(roles()[role]) == set()


def test_what_the_chart_makes_can_be_created() -> None:
    assert {"NetworkPolicy", "Ingress", "RayJob"} <= set(templates())
    assert set(rights.rights_to_recreate(templates())) - granted(roles()["trainer-submitter"]) == set()


def test_the_storages_service_can_be_reached() -> None:
    assert set(rights.REACH_STORAGE) - granted(roles()["trainer-storage"]) == set()


def test_the_storages_keys_can_be_read() -> None:
    assert rights.READ_SECRET in granted(roles()["trainer-submitter"])


def test_secrets_are_read_by_name_alone() -> None:
    for role in roles().values():
        for rule in role["rules"]:
            assert not DANGEROUS & {*rule["resources"], *rule["verbs"], *rule["apiGroups"]}
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"] and rule["verbs"] == ["get"]
            if {*ROLES} & {*rule["resources"]}:  # nobody's Role can be changed or deleted
                assert {*rule["verbs"]} == {"get", "create"}
