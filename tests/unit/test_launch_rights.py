"""k8s/rbac/submitter.yaml grants what the launcher's verbs need, and not much else."""

from typing import Any

import pytest
import yaml

from tests.unit.tree import ROOT
from trainer_app.launch import rights
from trainer_app.launch.kube import KINDS
from trainer_app.launch.rights import Right

pytestmark = pytest.mark.unit
DANGEROUS = {"pods/exec", "pods/attach", "roles", "rolebindings", "serviceaccounts/token", "*"}


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


@pytest.mark.parametrize("verb", sorted(rights.VERBS))
def test_each_verb_is_allowed(verb: str) -> None:
    assert set(rights.VERBS[verb]) - granted(roles()["trainer-submitter"]) == set()


def test_what_the_chart_makes_can_be_created() -> None:
    kinds = [path.stem for path in (ROOT / "helm/trainer/templates").glob("*.yaml")]
    assert "networkpolicy" in kinds and "rayjob" in kinds
    made = [kind for kind in KINDS if kind.lower() in {name.partition("-")[0] for name in kinds}]
    # Not by submit: a Secret of the chart's own is for development; clusters that stay and timetables are installed.
    others = {Right("create", "secrets")} | set(rights.of_kinds(["RayCluster", "RayCronJob"]))
    wanted = set(rights.of_kinds(made)) - others
    assert wanted - granted(roles()["trainer-submitter"]) == set()


def test_the_storages_service_can_be_reached() -> None:
    assert set(rights.STORAGE) - granted(roles()["trainer-storage"]) == set()


def test_the_storages_keys_can_be_read() -> None:
    assert rights.SECRET in granted(roles()["trainer-submitter"])


def test_secrets_are_read_by_name_alone() -> None:
    for role in roles().values():
        for rule in role["rules"]:
            assert not DANGEROUS & {*rule["resources"], *rule["verbs"], *rule["apiGroups"]}
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"] and rule["verbs"] == ["get"]
