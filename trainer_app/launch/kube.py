"""The Kubernetes API as the launcher uses it: objects by kind, errors in one line with a remedy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from trainer_app.errors import AccessDeniedError, AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.formatting import one_line

CONNECT_S, TIMEOUT_S = 5, 10  # of a call; one that does not connect is tried twice
VERBS: Final = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}
Object = dict[str, Any]
Pairs = Mapping[str, str] | None

# Every kind that the chart renders, and those that are only read: (path of the group and version, plural).
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Event": ("/api/v1", "events"),
    "Pod": ("/api/v1", "pods"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Workload": ("/apis/kueue.x-k8s.io/v1beta1", "workloads"),
    "Ingress": ("/apis/networking.k8s.io/v1", "ingresses"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "PodMonitor": ("/apis/monitoring.coreos.com/v1", "podmonitors"),
    "RayCluster": ("/apis/ray.io/v1", "rayclusters"),
    "RayCronJob": ("/apis/ray.io/v1", "raycronjobs"),
    "RayJob": ("/apis/ray.io/v1", "rayjobs"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}


@dataclass(frozen=True)
class Kube:
    """A namespace of a cluster. Every method raises TrainerError or one of its subclasses."""

    namespace: str
    configuration: Any

    def core(self) -> Any:
        """Return a new client of the core API: `kubernetes.stream` replaces a client's methods while it connects."""
        return client.CoreV1Api(client.ApiClient(self.configuration))

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create an object; return it as the API server completed it."""
        query = [("dryRun", "All")] if dry_run else []
        return self._call("POST", obj["kind"], obj["metadata"]["name"], body=obj, query=query)

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object:
        """Return one object.

        Args:
            kind: a key of KINDS.
            namespace: where it is; None for that of this Kube.
        """
        return self._call("GET", kind, name, namespace=namespace)

    def list(
        self, kind: str, *, labels: Pairs = None, fields: Pairs = None, namespace: str | None = None
    ) -> list[Object]:
        """Return the objects of a kind.

        Args:
            kind: a key of KINDS.
            labels, fields: those that an object must have, all of them; None for every object.
            namespace: where they are; None for that of this Kube.
        """
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = [(key, ",".join(f"{k}={v}" for k, v in one.items())) for key, one in selectors.items() if one]
        return self._call("GET", kind, query=query, namespace=namespace)["items"]

    def watch(self, kind: str, *, timeout_s: int, **selectors: str) -> Iterator[bytes]:
        """Yield pieces of what the API says of a kind's objects: first of those that are there, then of each change.

        Args:
            kind: a key of KINDS.
            timeout_s: after how many seconds the server ends it.
            selectors: `labelSelector` and `fieldSelector`, as the API has them.
        """
        group, plural = KINDS[kind]
        query = [("watch", "true"), ("timeoutSeconds", str(timeout_s)), *selectors.items()]
        with explain_errors(f"watch {kind}", kind=kind, namespace=self.namespace):
            path = f"{group}/namespaces/{self.namespace}/{plural}"
            answer = self._open("GET", path, query=query, timeout_s=timeout_s + TIMEOUT_S)
            try:
                yield from answer.response.stream(1 << 16)
            finally:
                answer.response.close()

    def patch(self, kind: str, name: str, change: Object) -> Object:
        """Apply a merge patch; return the object.

        Args:
            kind: a key of KINDS.
            change: the fields to change; None as a value removes one.
        """
        return self._call("PATCH", kind, name, body=change)

    def delete(self, kind: str, name: str) -> Object:
        """Delete one object."""
        return self._call("DELETE", kind, name)

    def user(self) -> str:
        """Return this user's name in the cluster."""
        path, group = "/apis/authentication.k8s.io/v1/selfsubjectreviews", "authentication.k8s.io/v1"
        body = {"apiVersion": group, "kind": "SelfSubjectReview", "metadata": {}}
        return self.request("POST", path, body, what="read this user's name")["status"]["userInfo"]["username"]

    def request(self, verb: str, path: str, body: Any = None, *, what: str = "") -> Object:
        """Send a request to any path of the API; return its answer.

        Args:
            body: sent as JSON.
            what: what the request does, as in "can't {what}", for the error's text; "" for the verb and the path.
        """
        with explain_errors(what or f"{verb.lower()} {path}", namespace=self.namespace):
            return self._send(verb, path, body=body)

    def _call(self, verb: str, kind: str, name: str = "", *, namespace: str | None = None, **request: Any) -> Object:
        group, plural = KINDS[kind]
        namespace = namespace or self.namespace
        path = f"{group}/namespaces/{namespace}/{plural}{f'/{name}' if name and verb != 'POST' else ''}"
        with explain_errors(f"{VERBS[verb]} {kind} {name}".strip(), kind=kind, name=name, namespace=namespace):
            return self._send(verb, path, **request)

    def _send(self, verb: str, path: str, **request: Any) -> Object:
        answer = self._open(verb, path, **request)
        answer.read()
        return json.loads(answer.data)

    def _open(self, verb: str, path: str, *, body: Any = None, query: Any = (), timeout_s: float = TIMEOUT_S) -> Any:
        content_type = f"application/{'merge-patch+' if verb == 'PATCH' else ''}json"
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        api = _shared_client(self.configuration)
        request = api.param_serialize(
            verb, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = api.call_api(*request, _request_timeout=(CONNECT_S, timeout_s))
        if not 200 <= answer.status <= 299:
            answer.read()
            raise ApiException(status=answer.status, reason=answer.reason, body=answer.data)
        return answer


@cache
def _shared_client(configuration: Any) -> Any:
    """Return one client, and so one TLS connection, for all calls of a process: a handshake takes 5 to 50 ms."""
    return client.ApiClient(configuration)


def connect(namespace: str | None, context: str | None = None) -> Kube:
    """Return the cluster of a kubeconfig's context; None is the current context, and its own namespace.

    Raises:
        InputError: there is no kubeconfig or no such context.
    """
    configuration = client.Configuration()
    try:
        config.load_kube_config(context=context, client_configuration=configuration)
        chosen = namespace or _namespace(context)
    except (ConfigException, OSError) as error:
        why = one_line(error)
        raise InputError(f"no cluster is configured: {why}; set KUBECONFIG, or give a --context of it") from error
    configuration.retries = 1
    configuration.connection_pool_maxsize = 32  # its default, 5 a CPU, warns on stderr when doctor asks for more
    if not configuration.verify_ssl:  # the kubeconfig turns it off: a warning for each call adds nothing
        warnings.simplefilter("ignore", InsecureRequestWarning)
    return Kube(chosen, configuration)


def _namespace(context: str | None) -> str:
    contexts, active = config.list_kube_config_contexts()
    chosen = next((one for one in contexts if one["name"] == context), active)
    return chosen["context"].get("namespace", "default")


@contextmanager
def explain_errors(what: str, *, kind: str = "", name: str = "", namespace: str = "") -> Iterator[None]:
    """Turn the API's errors into ours: what was tried, the API's message, and what to do.

    Args:
        what: what is tried inside, as in "can't {what}".
        kind, name, namespace: of the object that it is about; "" if it is about none.

    Raises:
        TrainerError: the API refused it (a subclass says which way, such as NotFoundError), or did not answer.
    """
    try:
        yield
    except ApiException as error:
        raise _translate(error, what, kind, name, namespace) from error
    except (HTTPError, OSError) as error:
        reason = one_line(getattr(error, "reason", None) or error)[:300]
        raise TrainerError(
            f"can't {what}: the cluster does not answer ({reason}); check that it is running, and --context"
        ) from error


def _translate(error: ApiException, what: str, kind: str, name: str, namespace: str) -> TrainerError:
    message = _message(error)
    if error.status == 401:
        return AccessDeniedError(
            f"can't {what}: the cluster rejects this user's credentials; renew those of the kubeconfig"
        )
    if error.status == 403:
        without = ", or do without: --set submitter.apiAccess=false" if kind.startswith("Role") else ""
        role = f"ask for the Role of k8s/rbac/submitter.yaml in {namespace}{without}"
        return AccessDeniedError(f"can't {what}: {message}; {role}")
    if error.status == 404 and kind == "Workload" and "not found" in message:
        return TrainerError(f"can't {what}: the cluster has no Kueue, which the run's queue needs (queue.name)")
    if error.status == 404 and kind.startswith("Ray") and "not found" in message and (not name or name not in message):
        return TrainerError(f"can't {what}: the cluster has no kind {kind}; install KubeRay: make operator")
    if error.status == 404:
        return NotFoundError(f"can't {what} in {namespace}: {message}")
    if error.status == 409 and kind == "RayJob":
        return AlreadyExistsError(
            f"run {name} exists in {namespace}; resume it: trainer resume {name}; or give another --name"
        )
    if error.status == 409:
        return AlreadyExistsError(f"{kind} {name} exists in {namespace}; give another --name")
    if error.status in (400, 422):
        return InputError(f"can't {what}: {message}")
    return TrainerError(f"can't {what}: {message}")


def _message(error: ApiException) -> str:
    """Return the API server's message in one line."""
    try:
        message = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body)
        message = f"HTTP {error.status} {error.reason}: {body[:200]}"
    return one_line(message)
