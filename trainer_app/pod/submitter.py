"""The submitter in its pod: gives Ray the job once, shows its log, and ends only when the job has ended.

    python -m trainer_app.pod.submitter -- trainer tune /etc/trainer/run.yaml --log -

KubeRay gives the dashboard's address, the job's id and the token by environment. Ray's own `ray job submit` and
`ray job logs` end with the head; this goes on with the head that comes after it, and submits again what that one
does not know: under the same id, so that the driver goes on from the newest commit, or says again how the run ended.
If the operator is down for 30 s over the end of this process, it calls the RayJob failed and starts another attempt,
which is such a replay. Speaks HTTP: it starts in a tenth of a second and needs no Ray.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import websocket

from trainer_app.errors import SubmissionRefusedError

PAUSE_S: Final = 2.0
TIMEOUT_S: Final = 30.0
ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
RUNNING: Final = ("PENDING", "RUNNING")


@dataclass
class RayJobClient:
    """A job on the dashboard at `address` (host:port)."""

    address: str
    submission: str
    token: str
    runtime_env: dict[str, Any] = field(default_factory=dict)  # Ray's; of a run on another release's cluster
    shown: int = 0  # characters of the log

    def state(self) -> str | None:
        """Ray's word for it; None: this head does not know the job. Raises OSError while there is no dashboard."""
        try:
            return str(self._ask("GET", f"/api/jobs/{self.submission}")["status"])
        except HTTPError as error:
            if error.code == 404:
                return None
            raise

    def submit(self, entrypoint: str) -> None:
        """Raises SubmissionRefusedError, or OSError to try again: another submitter of this id may have been first."""
        self.shown = 0  # a new head has a new log
        try:
            own = {"runtime_env": self.runtime_env} if self.runtime_env else {}
            self._ask("POST", "/api/jobs/", {"entrypoint": entrypoint, "submission_id": self.submission, **own})
        except HTTPError as error:
            if error.code in (400, 401, 403):
                raise SubmissionRefusedError(
                    f"Ray refused the job: HTTP {error.code} {error.read().decode()[:500]}"
                ) from error
            raise

    def follow(self) -> None:
        """Shows the log until the job ends or the connection breaks, from where it stopped before."""
        url = f"ws://{self.address}/api/jobs/{self.submission}/logs/tail"
        connection = websocket.create_connection(url, timeout=TIMEOUT_S, header=self._headers())
        skip = self.shown
        try:
            while text := self._next(connection):
                new = text[skip:]
                skip = max(0, skip - len(text))
                self.shown += len(new)
                sys.stdout.write(new)
                sys.stdout.flush()
        finally:
            connection.close(timeout=1)

    def _next(self, connection: websocket.WebSocket) -> str:
        """What comes next; "" at the end. After a silence the job is asked for: a node that is cut off closes nothing.

        Raises OSError or WebSocketException if the connection is no good any more.
        """
        while True:
            try:
                return str(connection.recv())
            except websocket.WebSocketTimeoutException:
                if self.state() not in RUNNING:
                    return ""

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._headers()}
        request = Request(f"http://{self.address}{path}", data, headers, method=verb)
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)


def run_to_end(job: RayJobClient, entrypoint: str) -> str:
    """The job's last state. Whatever breaks between here and the head is tried again: KubeRay holds the deadlines."""
    told, state = "", None
    while True:
        try:
            state = job.state()
            if state is None:
                job.submit(entrypoint)
                print(f"submitted job {job.submission}", file=sys.stderr, flush=True)
            job.follow()
            # Ray closes the log of a job that has ended when all of it is told: to ask for it again costs 5 s.
            state = job.state()
            if state in ENDED:
                return str(state)
        except (OSError, HTTPException, websocket.WebSocketException, ValueError) as error:
            if state in ENDED:  # the end is known; the head may be gone before its last words are read
                return str(state)
            words = f"no answer from Ray at {job.address} ({' '.join(str(error).split())[:200]}); trying again"
            if words != told:
                print(words, file=sys.stderr, flush=True)
            told = words
        time.sleep(PAUSE_S)


def main() -> int:
    """0 once the job has ended, however: KubeRay takes the result from Ray, and repeats a submitter that fails."""
    # The kernel drops a signal for process 1 that has no handler: the pod would stay for its whole grace, 30 s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    words = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    env = os.environ
    address = env["RAY_DASHBOARD_ADDRESS"].removeprefix("http://")
    runtime_env = json.loads(env.get("TRAINER_RUNTIME_ENV") or "{}")
    job = RayJobClient(address, env["RAY_JOB_SUBMISSION_ID"], env.get("RAY_AUTH_TOKEN", ""), runtime_env)
    try:
        state = run_to_end(job, shlex.join(words))
    except SubmissionRefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"job {job.submission} {state}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
