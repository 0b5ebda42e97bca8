"""A local port that leads to a pod behind a Service, through the Kubernetes API."""

from __future__ import annotations

import logging
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Final
from urllib.parse import urlsplit

from kubernetes import stream
from kubernetes.client.exceptions import ApiException
from websocket import WebSocketConnectionClosedException, WebSocketException

from trainer_app.errors import InputError, NotFoundError, TrainerError
from trainer_app.launch import pods
from trainer_app.launch.kube import Kube, Object, explain_errors

_SERVICE: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\.[a-z0-9.-]+)?)?")
CHUNK: Final = 1 << 16
_log = logging.getLogger(__name__)


def parse_service(endpoint: str) -> tuple[str, str, int] | None:
    """Return (Service, namespace, port) of an endpoint such as http://minio.minio.svc:9000; None for any other host."""
    parts = urlsplit(endpoint)
    match = _SERVICE.fullmatch(parts.hostname or "")
    if not match or not (match["namespace"] and ".svc" in (parts.hostname or "")):
        return None
    return match["name"], match["namespace"], parts.port or (443 if parts.scheme == "https" else 80)


class Server(ThreadingTCPServer):
    """A server with a thread for each connection."""

    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open would be waited for
    request_queue_size = 64  # with Python's 5, some of 16 connections at once waited for a second, when TCP tries again

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever used the connection says that it ended, and a new one may do."""
        _log.debug("a connection of a port-forward ended", exc_info=True)


@contextmanager
def forward_port(kube: Kube, service: str, namespace: str, port: int) -> Iterator[int]:
    """Yield a port of 127.0.0.1 that leads to a ready pod of the Service; to another one if the pod is replaced.

    Args:
        port: the Service's, not the pod's.

    Raises:
        NotFoundError: there is no such Service, or no ready pod behind it.
        InputError: the Service has no such port.
        AccessDeniedError: this user may not forward ports there.
    """
    target = _find_target(kube, service, namespace, port)
    _connect(kube, namespace, *target).close()  # what keeps it from that is said here, and not in a thread

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            nonlocal target
            try:
                far = _connect(kube, namespace, *target)
            except TrainerError:
                target = _find_target(kube, service, namespace, port)
                far = _connect(kube, namespace, *target)
            try:
                _copy_both_ways(self.request, far.socket(target[1]))
            finally:
                far.close()

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _connect(kube: Kube, namespace: str, pod: str, port: int) -> Any:
    """Return a port-forward of its own for one connection."""
    with explain_errors(f"forward a port to pod {pod} in {namespace}", namespace=namespace):
        try:
            connect = kube.core().connect_get_namespaced_pod_portforward
            far = stream.portforward(connect, pod, namespace, ports=str(port))
        except ApiException as error:  # with status 0 and the text of its cause, which has the API's answer
            cause = error.__context__
            if isinstance(cause, OSError):
                raise cause from error
            error.status, error.body = getattr(cause, "status_code", 0), getattr(cause, "resp_body", b"")
            raise
    _end_at_error(far.websocket)
    return far


def _end_at_error(websocket: Any) -> None:
    """Make a connection that breaks one that is closed: the library's thread would print a traceback, and end nothing.

    Whoever uses the port would wait for an answer then, boto3 for 30 s.
    """
    receive = websocket.recv_data_frame

    def receive_or_close(*options: Any) -> Any:
        try:
            return receive(*options)
        except (OSError, WebSocketException) as error:
            raise WebSocketConnectionClosedException(str(error)) from error

    websocket.recv_data_frame = receive_or_close


def _find_target(kube: Kube, service: str, namespace: str, port: int) -> tuple[str, int]:
    """Return (pod, its port)."""
    spec = kube.get("Service", service, namespace=namespace)["spec"]
    ports = {one["port"]: one.get("targetPort", one["port"]) for one in spec["ports"]}
    if port not in ports:
        raise InputError(f"Service {service} in {namespace} has no port {port}; it has {', '.join(map(str, ports))}")
    candidates = kube.list("Pod", labels=spec.get("selector") or {}, namespace=namespace)
    pod = next((pod for pod in candidates if pods.is_ready(pod)), None)
    if pod is None:
        raise NotFoundError(f"Service {service} in {namespace} has no ready pod: kubectl get pods -n {namespace}")
    return pod["metadata"]["name"], _port_number(pod, ports[port])


def _port_number(pod: Object, target: Any) -> int:
    """Return the number of a target port, which may be the name of a container's port."""
    if isinstance(target, int):
        return target
    named = {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    return int(named[target])


def _copy_both_ways(near: socket.socket, far: Any) -> None:
    """Copy both ways until one side ends."""
    far.setblocking(True)
    while True:
        readable, _, _ = select.select([near, far], [], [])
        for source, sink in ((near, far), (far, near)):
            if source in readable:
                data = source.recv(CHUNK)
                if not data:
                    return
                sink.sendall(data)
