"""What the submitter writes to its RayJob: progress as annotations, and that a failed run gets no further cluster.

Its ServiceAccount may patch this one RayJob and nothing else; that of a RayCronJob may read RayJobs: `role.yaml` of the
chart.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final

from trainer_app.progress_line import EVERY_S, Progress, parse_line

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S: Final = 5.0
SILENCE_S: Final = 60.0  # after a request that failed: none may hold up the log for long
TRIES: Final = 5
PAUSE_S: Final = 2.0


class RayJobReporter:
    """The RayJob of this submitter.

    Args:
        name: NAMESPACE/NAME; "" if the chart grants no access: then nothing is written.
        host, port: of the API server.
        account: the folder with the token, which is renewed, and the API server's certificate authority.
    """

    def __init__(self, name: str, host: str = "", port: int = 443, account: Path = ACCOUNT) -> None:
        self.namespace, _, self.name = name.partition("/")
        self.host, self.port, self.account = host, port, account
        self._rest, self._due = "", 0.0
        self._pending: Progress | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RayJobReporter:
        """Return that of the pod with this environment."""
        port = int(env.get("KUBERNETES_SERVICE_PORT_HTTPS") or 443)
        return cls(env.get("TRAINER_RAYJOB", ""), env.get("KUBERNETES_SERVICE_HOST", ""), port)

    def read(self, text: str) -> None:
        """Take the next piece of the driver's log; write the newest progress in it, unless that was just done."""
        if not self.name:
            return
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[-1000:]
        self._pending = next(filter(None, map(parse_line, reversed(lines))), self._pending)
        if self._pending and time.monotonic() >= self._due:
            self._write({})

    def finish(self, *, is_permanent: bool) -> None:
        """Write what is left.

        Args:
            is_permanent: the run failed and would fail again: KubeRay shall start no further cluster.
        """
        if not self.name or not (is_permanent or self._pending):
            return
        change = {"spec": {"backoffLimit": 0}} if is_permanent else {}
        tries = TRIES if is_permanent else 1
        while not self._write(change):
            if not (tries := tries - 1):
                return
            time.sleep(PAUSE_S)
        if is_permanent:
            _say("the run would fail again: KubeRay starts no further cluster for it")

    def _write(self, change: Mapping[str, Any]) -> bool:
        """Write this and the progress that is left; return False if the API server refuses it or does not answer."""
        annotations = {"metadata": {"annotations": self._pending.annotations()}} if self._pending else {}
        try:
            self._request("PATCH", {**annotations, **change})
        except (OSError, HTTPException, ValueError) as error:
            _say(f"can't write to RayJob {self.name}: {' '.join(str(error).split())[:200]}")
            self._due = time.monotonic() + SILENCE_S
            return False
        self._pending, self._due = None, time.monotonic() + EVERY_S - 1  # the driver's lines are EVERY_S apart
        return True

    def read_creation(self) -> str:
        """Return when the RayJob was created, as Kubernetes writes it; "" if that can't be read, which is said."""
        for _ in range(TRIES):
            try:
                return str(self._request("GET")["metadata"]["creationTimestamp"])
            except (OSError, HTTPException, ValueError, KeyError) as error:
                _say(f"can't read RayJob {self.name}: {' '.join(str(error).split())[:200]}")
            time.sleep(PAUSE_S)
        return ""

    def _request(self, verb: str, change: Mapping[str, Any] | None = None) -> Any:
        """Send a request, a change as a merge patch. Raises OSError or HTTPException if the API server refuses it or
        does not answer.
        """
        context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        connection = HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=context)
        token = (self.account / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
        path = f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs/{self.name}"
        try:
            connection.request(verb, path, None if change is None else json.dumps(change), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status} {body[:300].decode(errors='replace')}")
        return json.loads(body)


def read_scheduled_creation(env: Mapping[str, str]) -> str:
    """Return when the RayJob that a RayCronJob made for this pod was created; "" if none did, or if it is unknown."""
    name = env.get("TRAINER_SCHEDULED_RAYJOB", "")
    return RayJobReporter.from_env({**env, "TRAINER_RAYJOB": name}).read_creation() if name else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
