"""What a storage, a RayJob or another user's object says is not believed: rights, names, endpoints."""

import json
import os
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from trainer_app.cli.app import trainer as command
from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.launch import control, location, resubmit, submit, submitted
from trainer_app.launch.kube import Kube
from trainer_app.launch.remote_run import Launch, RemoteRun, Submission
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit
RUN_FILE = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\n"
OWN = {"storage": {"bucket": "mine", "existingSecret": "keys"}, "networkPolicy": {"anywhere": True}}
OURS = {"trainer/run": "demo", "app.kubernetes.io/name": "trainer"}
LAUNCH = Launch("demo", "train", "team", "demo-1", "0", "0", user="alice")
SUBMISSION = Submission(LAUNCH, RUN_FILE, OWN)
MINIO = submitted.StorageSettings("s3://mine/runs", "http://minio:9000", "us-east-1", "keys")


@dataclass
class Cluster:
    """A namespace: objects by kind and name, and who asks."""

    objects: dict[tuple[str, str], Any] = field(default_factory=dict)
    name: str = "alice"
    namespace: str = "team"
    deleted: list[tuple[str, str]] = field(default_factory=list)

    def user(self) -> str:
        return self.name

    def create(self, obj: Any, *, dry_run: bool = False) -> Any:
        key = (obj["kind"], obj["metadata"]["name"])
        if key in self.objects:
            raise AlreadyExistsError("exists")
        made = {**obj, "metadata": {**obj["metadata"], "uid": "1"}}
        if not dry_run:
            self.objects[key] = made
        return made

    def get(self, kind: str, name: str) -> Any:
        if (kind, name) not in self.objects:
            raise NotFoundError("gone")
        return self.objects[kind, name]

    def list(self, kind: str, *, labels: Any = None) -> list[Any]:
        return [one for (is_kind, _), one in self.objects.items() if is_kind == kind]

    def patch(self, kind: str, name: str, change: Any) -> None:
        obj = self.objects[kind, name]
        obj["metadata"] |= change["metadata"]
        obj.setdefault("data", {}).update(change.get("data", {}))

    def delete(self, kind: str, name: str) -> None:
        self.deleted.append((kind, name))
        del self.objects[kind, name]
        owners = {key: one["metadata"].get("ownerReferences", ()) for key, one in self.objects.items()}
        for key in [
            key for key, refs in owners.items() if any((one["kind"], one["name"]) == (kind, name) for one in refs)
        ]:
            del self.objects[key]


def kube(cluster: Cluster) -> Kube:
    return cast(Kube, cluster)


@pytest.fixture
def stored(tmp_path: Path) -> RemoteRun:
    run = RemoteRun(open_store(str(tmp_path)).child("demo"), "demo")
    run.claim(LAUNCH, RUN_FILE, OWN)
    return run


def choose(run: RemoteRun, own: Submission | None = None, *, yes: bool = False) -> tuple[Submission, list[str]]:
    said: list[str] = []
    return resubmit._choose("demo", own, run, OWN, yes=yes, say=said.append), said


RIGHTS: list[dict[str, Any]] = [
    {"image": {"repository": "evil"}},
    {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "admin"}}},
    {"serviceAccount": {"name": "admin"}},
    {"networkPolicy": {"enabled": False}},
    {"networkPolicy": None},
    {"networkPolicy": {"egress": [{"to": []}]}},
    {"head": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "k"}}}]}},
    {"poolDefaults": {"volumes": [{"name": "v", "secret": {"secretName": "foreign"}}]}},
    {"pools": {"cpu": {"volumes": [{"name": "v", "secret": {"secretName": "foreign"}}]}}},
    {"pools": {"more": {"env": [{"name": "A"}]}}},
    {"podLabels": {"a": "b"}},
    {"autoscaling": {"enabled": True}},
    {"storage": {"endpoint": "http://evil"}},
    {"storage": {"keys": {"accessKeyId": "a"}}},
    {"run": {"env": {"A": "b"}}},
    {"kind": "RayCronJob"},
    {"a key of another version": 1},
]


@pytest.mark.parametrize("values", RIGHTS, ids=lambda values: json.dumps(values)[:40])
def test_rights_that_only_the_storage_gives_need_a_yes(stored: RemoteRun, values: dict[str, Any]) -> None:
    stored.write_values(values)
    said: list[str] = []
    with pytest.raises(InputError, match=r"1 lines above\); give the values .* --yes$"):
        resubmit._choose("demo", None, stored, OWN, yes=False, say=said.append)
    assert len(said) == 1 and said[0].startswith(f"only the storage says: {next(iter(values))}")
    submission, again = choose(stored, yes=True)
    assert submission.values == values and again == said


@pytest.mark.parametrize(
    "values",
    [
        OWN,
        {"poolDefaults": {"terminationGracePeriodSeconds": 10, "resources": {"limits": {"memory": "3Gi"}}}},
        {"pools": {"cpu": {"replicas": 2, "gpu": {"count": 1}}}, "lifetime": {"backoffLimit": 0}},
        {"image": {"repository": "trainer", "tag": "dev"}, "networkPolicy": {"enabled": True}},  # as in the chart
    ],
)
def test_sizes_and_what_the_user_says_too_are_no_rights(stored: RemoteRun, values: dict[str, Any]) -> None:
    stored.write_values(values)
    assert choose(stored)[1] == []


@pytest.mark.parametrize(
    "launch, run_file, line",
    [
        ({"image": "evil:1"}, RUN_FILE, "--image: 'trainer:dev', in the storage 'evil:1'"),
        ({"code": "ab" * 32}, RUN_FILE, "--code: '', in the storage 'sha256 abababababab'"),
        (
            {},
            RUN_FILE + "optimizer: {class_path: os.system}\n",
            "run file: optimizer.class_path: os.system: os is part of Python, whose functions and classes could run or read anything",  # noqa: E501
        ),
        ({}, RUN_FILE + "checkpoint: {allow: [mine.Thing]}\n", "checkpoint.allow: [], in the storage ['mine.Thing']"),
    ],
)
def test_images_code_and_classes_that_only_the_storage_names(
    stored: RemoteRun, launch: dict[str, Any], run_file: str, line: str
) -> None:
    stored.record_resubmission(replace(LAUNCH, **launch))
    stored.write_run_file(run_file)
    with pytest.raises(InputError, match="--yes"):
        choose(stored)
    assert choose(stored, yes=True)[1] == [f"only the storage says: {line}"]


def test_what_the_cluster_has_counts_and_the_storage_is_not_asked(stored: RemoteRun) -> None:
    own = Submission(LAUNCH, RUN_FILE, OWN)
    assert choose(stored, own) == (own, [])
    stored.write_values({**OWN, "image": {"repository": "evil"}})
    stored.record_resubmission(replace(LAUNCH, run="default-deny", image="evil:1", code="ab" * 32))
    submission, said = choose(stored, own)
    assert submission == own
    assert [line.split(": ")[1] for line in said] == ["image.repository", "image", "code"]
    stored.run_store.delete("launch/launch.json")
    assert choose(stored, own) == (own, [])


def test_the_name_is_the_one_asked_for(stored: RemoteRun) -> None:
    stored.record_resubmission(replace(LAUNCH, run="default-deny"))
    assert choose(stored)[0].launch.run == "demo"


@pytest.mark.parametrize("field_", [{"task": "sh"}, {"task": 1}, {"env": "A"}, {"former": [1]}, {"image": ["a"]}, None])
def test_a_damaged_launch_is_an_error(stored: RemoteRun, field_: dict[str, Any] | None) -> None:
    document = {**asdict(LAUNCH), **(field_ or {})}
    if field_ is None:
        del document["run"]
    stored.run_store.put("launch/launch.json", json.dumps(document).encode())
    with pytest.raises(TrainerError, match=r"launch/launch\.json is damaged"):
        choose(stored)


def thing(kind: str, name: str, labels: dict[str, str] | None, **meta: Any) -> Any:
    return {"kind": kind, "metadata": {"name": name, **({"labels": labels} if labels is not None else {}), **meta}}


@pytest.mark.parametrize("labels", [None, {}, {"trainer/run": "other", "app.kubernetes.io/name": "trainer"}, {
    "trainer/run": "demo", "app.kubernetes.io/name": "web"}])  # fmt: skip
def test_resume_deletes_nothing_of_others(labels: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    policy, own = thing("NetworkPolicy", "demo", labels), thing("Service", "demo", OURS)
    cluster = Cluster({(one["kind"], "demo"): one for one in (own, policy)})
    for check in (resubmit._check_objects, resubmit._wait_until_removed):
        with pytest.raises(InputError, match="NetworkPolicy demo exists, and was not made for run demo"):
            check(kube(cluster), "demo", [policy])
    assert cluster.deleted == []
    resubmit._wait_until_removed(kube(cluster), "demo", [own])
    assert cluster.deleted == [("Service", "demo")]


def test_a_rayjob_of_others_is_not_stopped_resumed_or_deleted() -> None:
    job = {**thing("RayJob", "demo", {"trainer/run": "other"}), "spec": {}, "status": {}}
    cluster = Cluster({("RayJob", "demo"): job})
    for verb in (control.stop, control.delete):
        with pytest.raises(InputError, match="not made for run demo"):
            verb(kube(cluster), job, grace=0.0, say=print)
    with pytest.raises(InputError, match="not made for run demo"):
        control.resume(kube(cluster), job, say=print)
    assert cluster.deleted == []


def test_a_submission_is_kept_beside_the_rayjob_and_goes_with_delete() -> None:
    cluster = Cluster()
    submitted.write(kube(cluster), SUBMISSION, MINIO)
    (obj,) = cluster.objects.values()
    assert obj["metadata"]["labels"].items() >= OURS.items() and "ownerReferences" not in obj["metadata"]
    assert submitted.read(kube(cluster), "demo") == Submission(LAUNCH, RUN_FILE, OWN)
    again = replace(LAUNCH, submission="demo-2")
    submitted.write(kube(cluster), SUBMISSION._replace(launch=again), MINIO)
    assert submitted.read(kube(cluster), "demo") == Submission(again, RUN_FILE, OWN)
    assert submitted.read(kube(Cluster(cluster.objects, "mallory")), "demo") is None  # alice's word
    submitted.remove(kube(cluster), "demo")
    submitted.remove(kube(cluster), "demo")
    assert cluster.deleted == [("ConfigMap", "demo-submitted")]


def test_a_submission_in_a_foreign_configmap_does_not_count() -> None:
    foreign = {**thing("ConfigMap", "demo-submitted", {"trainer/run": "demo"}), "data": {}}
    cluster = Cluster({("ConfigMap", "demo-submitted"): foreign})
    assert submitted.read(kube(cluster), "demo") is None
    with pytest.raises(InputError, match="left as it is"):
        submitted.write(kube(cluster), SUBMISSION, MINIO)
    submitted.remove(kube(cluster), "demo")
    assert cluster.deleted == [] and foreign["data"] == {}
    said: list[str] = []
    job = thing("RayJob", "demo", OURS)
    submit.keep_submission(kube(cluster), SUBMISSION, [job], said.append)
    assert said[0].startswith("trainer resume will need the values of this run again (-f FILE)")


EVIL = "http://evil:9000"
KEYS = {"AWS_ACCESS_KEY_ID": "YQ==", "AWS_SECRET_ACCESS_KEY": "Yg=="}


def reach(cluster: Cluster, uri: str = "s3://bucket/runs", url: str = EVIL, option: str | None = None) -> str | None:
    """Return the endpoint that the storage would be opened with."""
    notes = {"trainer/storage-uri": uri, "trainer/storage-endpoint": url, "trainer/storage-secret": "keys"}
    where = location.location_of(thing("RayJob", "demo", {"trainer/run": "x"}, annotations=notes))
    assert where.run == "demo"
    with location.storage_access(kube(cluster), where, option):
        return os.environ.get("AWS_ENDPOINT_URL")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(location, "check_answers", lambda url: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("uri", ["s3://bucket/runs", f"s3://bucket/runs?endpoint_override={EVIL}"])
def test_an_endpoint_of_an_annotation_is_sent_nothing(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"storage at http://evil:9000, which neither .* no request is signed for it"):
        reach(Cluster(), uri)
    with pytest.raises(InputError) if "?" in uri else nullcontext():  # the URI's own comes before an option
        assert reach(Cluster(), uri, option="http://localhost:1") == "http://localhost:1"
    assert reach(Cluster(), uri, option=EVIL) == EVIL
    names = {"AWS_ENDPOINT_URL": "aHR0cDovL2V2aWw6OTAwMA=="}
    with pytest.raises(InputError, match="no request is signed"):  # with this user's keys
        reach(Cluster({("Secret", "keys"): {"data": {**names, "AWS_ACCESS_KEY_ID": "YQ=="}}}), uri)
    assert reach(Cluster({("Secret", "keys"): {"data": {**names, **KEYS}}}), uri) == EVIL
    monkeypatch.setenv("AWS_ENDPOINT_URL", EVIL)
    assert reach(Cluster(), uri) == EVIL


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("host", ["", "s3.eu-west-1.amazonaws.com", "s3.amazonaws.com", "s3-eu-west-1.amazonaws.com",
    "s3.cn-north-1.amazonaws.com.cn", "s3.dualstack.us-gov-west-1.amazonaws.com", "s3-fips.us-east-1.amazonaws.com",
    "bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com"])  # fmt: skip
def test_s3_of_aws_needs_no_name(host: str) -> None:
    url = f"https://{host}" if host else ""
    assert reach(Cluster(), url=url) == (url or None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("host", ["s3.amazonaws.com.evil.org", "abc.execute-api.us-east-1.amazonaws.com",
    "x.elb.amazonaws.com", "ec2-1-2-3-4.compute-1.amazonaws.com", "s3.compute-1.amazonaws.com", "amazonaws.com",
    "s3.eu-west-1.elb.amazonaws.com", "evil-s3.amazonaws.com", "s3.eu-west-1.amazonaws.com@evil.org"])  # fmt: skip
def test_other_hosts_of_aws_are_anybodys(host: str) -> None:
    with pytest.raises(InputError, match=r"no request is signed|credentials"):
        reach(Cluster(), url=f"https://{host}")


@pytest.mark.usefixtures("quiet")
def test_a_secret_gives_its_keys_and_changes_nothing_else_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 reads an endpoint, a profile, programs and addresses that give credentials from AWS_ variables."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    names = ("ENDPOINT_URL_S3", "PROFILE", "CONFIG_FILE", "CONTAINER_CREDENTIALS_FULL_URI", "CA_BUNDLE", "ROLE_ARN")
    more = {f"AWS_{name}": "aHR0cDovL2V2aWw6OTAwMA==" for name in names}
    where = location.RunLocation("demo", "s3://bucket/runs", "", "", "keys")
    for data, expected in (({**more, **KEYS}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}), (more, {})):
        with location.storage_access(kube(Cluster({("Secret", "keys"): {"data": data}})), where):
            after = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        assert after == {**before, **expected}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("uri, url", [("s3://bucket/runs", EVIL), (f"s3://bucket/runs?endpoint_override={EVIL}", "")])
def test_the_endpoint_of_ones_own_submission_is_named(uri: str, url: str) -> None:
    cluster = Cluster()
    submitted.write(kube(cluster), SUBMISSION, submitted.StorageSettings(uri, url))
    assert reach(cluster, uri, url) == (url or None)
    with pytest.raises(InputError, match="no request is signed"):
        reach(Cluster(cluster.objects, "bob"), uri, url)
    where = location.locate_run(kube(cluster), "demo", (), ())  # its RayJob is gone
    assert (where.uri, where.endpoint, where.own) == (uri, url, True)
    cluster.objects["ConfigMap", "demo-submitted"]["data"]["storage.json"] = "["
    with pytest.raises(NotFoundError, match="give the values"):
        location.locate_run(kube(cluster), "demo", (), ())


@pytest.mark.usefixtures("quiet")
def test_an_endpoint_of_the_users_values_is_named() -> None:
    where = location.RunLocation("demo", "s3://bucket/runs", EVIL, "", "keys", own=True)
    with location.storage_access(kube(Cluster()), where):
        assert os.environ["AWS_ENDPOINT_URL"] == EVIL


@pytest.mark.parametrize("verb", ["stop", "resume", "delete"])
def test_verbs_that_change_something_ask_for_the_run(verb: str) -> None:
    (run,) = (one for one in command().get_command(None, verb).params if one.name == "run")
    assert run.required


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "note, value",
    [
        *(
            ("endpoint", url)
            for url in ("http://[", "http://[::1", "http://x:port", "http://x:99999", "x", "s3://b", "\0")
        ),
        *(("uri", f"s3://bucket?endpoint_override={url}") for url in ("http://[", "http://x:port")),
        *(("uri", uri) for uri in ("s3://", "s3://b/../c", "s3://b?x=1", "x", "\x1b[31m")),
        *(("region", region) for region in ("\0", "a\nb", "\ud800", "us east")),
        ("secret", "damaged"),
    ],
)
def test_a_storage_that_is_none_is_refused_in_one_line(note: str, value: str) -> None:
    named = {"uri": "s3://bucket/runs", "endpoint": "https://s3.amazonaws.com", "region": "us-east-1", "secret": "keys"}
    notes = {f"trainer/storage-{key}": text for key, text in {**named, note: value}.items()}
    job = thing("RayJob", "demo", {"trainer/run": "demo"}, annotations=notes)
    cluster = Cluster({("Secret", "damaged"): {"data": {**KEYS, "AWS_SESSION_TOKEN": "YQA="}}})  # ends with a NUL
    with pytest.raises(TrainerError), location.storage_access(kube(cluster), location.location_of(job)):
        pass


def test_a_deep_document_in_ones_own_configmap_says_nothing() -> None:
    cluster = Cluster()
    submitted.write(kube(cluster), SUBMISSION, MINIO)
    cluster.objects["ConfigMap", "demo-submitted"]["data"]["storage.json"] = "[" * 100_000
    assert submitted.read_storage(kube(cluster), "demo") is None
