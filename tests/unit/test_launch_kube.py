"""What is sent to the Kubernetes API for each call, and how its errors read."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from trainer_app.errors import AccessDeniedError, AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.launch.kube import Kube

pytestmark = pytest.mark.unit
RAY = "/apis/ray.io/v1/namespaces/team/rayjobs"
RAYJOB = {"kind": "RayJob", "metadata": {"name": "demo"}}


class Api(BaseHTTPRequestHandler):
    """Answers `status`, and notes (method, path, content type, body)."""

    status = 200
    message = ""
    requests: list[tuple[str, str, str | None, Any]]

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else None
        self.requests.append((self.command, self.path, self.headers["Content-Type"], body))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps({"message": self.message, "items": []}).encode())

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    monkeypatch.setattr(Api, "requests", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
        yield Kube("team", configuration)
        server.shutdown()


def test_what_is_sent(kube: Kube) -> None:
    kube.create(RAYJOB, dry_run=True)
    kube.get("RayJob", "demo")
    kube.list("Pod", labels={"a": "b"}, namespace="other")
    kube.list("Event", fields={"type": "Warning", "involvedObject.name": "demo"})
    kube.patch("RayJob", "demo", {"spec": {}})
    kube.delete("RayJob", "demo")
    assert b"".join(kube.watch("Pod", timeout_s=60, labelSelector="a=b")) == b'{"message": "", "items": []}'
    plain, merge = "application/json", "application/merge-patch+json"
    assert Api.requests == [
        ("POST", f"{RAY}?dryRun=All", plain, RAYJOB),
        ("GET", f"{RAY}/demo", plain, None),
        ("GET", "/api/v1/namespaces/other/pods?labelSelector=a%3Db", plain, None),
        (
            "GET",
            "/api/v1/namespaces/team/events?fieldSelector=type%3DWarning%2CinvolvedObject.name%3Ddemo",
            plain,
            None,
        ),
        ("PATCH", f"{RAY}/demo", merge, {"spec": {}}),
        ("DELETE", f"{RAY}/demo", plain, None),
        ("GET", "/api/v1/namespaces/team/pods?watch=true&timeoutSeconds=60&labelSelector=a%3Db", plain, None),
    ]


@pytest.mark.parametrize(
    "status, message, error, text",
    [
        (401, "Unauthorized", AccessDeniedError, "renew those of the kubeconfig"),
        (403, "is forbidden", AccessDeniedError, "is forbidden; ask for the Role of k8s/rbac/submitter.yaml in team"),
        (404, "the server could not find it: not found", TrainerError, "no kind RayJob; install KubeRay"),
        (404, 'rayjobs "demo" not found', NotFoundError, "can't create RayJob demo in team"),
        (409, "exists", AlreadyExistsError, "resume it: trainer resume demo"),
        (422, "spec is invalid", InputError, "can't create RayJob demo: spec is invalid"),
        (500, "no leader", TrainerError, "can't create RayJob demo: no leader"),
    ],
)
def test_errors_say_what_to_do(
    kube: Kube, monkeypatch: pytest.MonkeyPatch, status: int, message: str, error: type[TrainerError], text: str
) -> None:
    monkeypatch.setattr(Api, "status", status)
    monkeypatch.setattr(Api, "message", message)
    with pytest.raises(error) as caught:
        kube.create(RAYJOB)
    assert type(caught.value) is error and text in str(caught.value)


def test_who_may_make_no_role_is_told_how_to_submit_without(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Api, "status", 403)
    monkeypatch.setattr(Api, "message", "roles is forbidden")
    with pytest.raises(AccessDeniedError, match=r"or do without: --set submitter\.apiAccess=false"):
        kube.create({"kind": "Role", "metadata": {"name": "demo-submitter"}})
