"""A local port that leads to a pod behind a Service, through the Kubernetes API."""

from __future__ import annotations

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

from trainer_app.errors import InputError, NotFoundError
from trainer_app.launch import pods
from trainer_app.launch.kube import Kube, Object, explain_errors

_SERVICE: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)(\.svc(\.[a-z0-9.-]+)?)?")
CHUNK: Final = 1 << 16


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


@contextmanager
def forward_port(kube: Kube, service: str, namespace: str, port: int) -> Iterator[int]:
    """Yield a port of 127.0.0.1 that leads to a ready pod of the Service.

    Args:
        port: the Service's, not the pod's.

    Raises:
        NotFoundError: there is no such Service, or no ready pod behind it.
        InputError: the Service has no such port.
    """
    pod, target = _find_target(kube, service, namespace, port)

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            with explain_errors(f"port-forward to pod {pod} in {namespace}", namespace=namespace):
                connect = kube.core().connect_get_namespaced_pod_portforward
                far = stream.portforward(connect, pod, namespace, ports=str(target))
            try:
                _copy_both_ways(self.request, far.socket(target))
            finally:
                far.close()

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


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
