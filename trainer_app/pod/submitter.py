"""The submitter's pod: submits the Ray job once, shows its log, and ends when the job has ended.

    python -m trainer_app.pod.submitter -- trainer tune /etc/trainer/run.yaml --log -

KubeRay sets the dashboard's address, the job's id and the token in the environment. Ray's own `ray job submit` and
`ray job logs` end with the head. This continues with the next head, and submits the job to it again under the same
id, so that the driver resumes from the newest commit, or repeats how the run ended. If the operator is down when this
process ends and for 30 s after it, it marks the RayJob as failed and starts another attempt, which is such a repeat.
If the run has failed for good, this takes the RayJob's `backoffLimit` back before it ends, which KubeRay waits for.
Uses HTTP instead of Ray: it starts in 0.1 s.
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

from trainer_app.errors import FAILED_FOR_GOOD, InputError, SubmissionRefusedError
from trainer_app.pod.rayjob import RayJobReporter, read_scheduled_creation

PAUSE_S: Final = 2.0
DENIED_S: Final = 120.0  # a head that begins may not know its token yet
SILENCE_S: Final = 1800.0
TIMEOUT_S: Final = 30.0
ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
RUNNING: Final = ("PENDING", "RUNNING")
CREATED: Final = "TRAINER_RAYJOB_CREATED"
PERMANENT: Final = (InputError.exit_code, FAILED_FOR_GOOD)  # exit codes of a driver that would end alike again


@dataclass
class RayJobClient:
    """A Ray job, by the dashboard at `address` (host:port)."""

    address: str
    submission: str
    token: str
    runtime_env: dict[str, Any] = field(default_factory=dict)  # Ray's, for a run on another release's cluster
    rayjob: RayJobReporter = field(default_factory=lambda: RayJobReporter(""))
    shown: int = 0  # how many characters of the log
    exit_code: int | None = None  # the driver's, once it has ended

    def state(self) -> str | None:
        """Return Ray's status of the job; None if this head does not know it.

        Raises:
            OSError: the dashboard does not answer, or with an error.
        """
        try:
            job = self._request("GET", f"/api/jobs/{self.submission}")
        except HTTPError as error:
            if error.code == 404:
                return None
            raise
        self.exit_code = job.get("driver_exit_code")
        return str(job["status"])

    def submit(self, entrypoint: str) -> None:
        """Submit the job.

        Raises:
            SubmissionRefusedError: Ray rejects it.
            OSError: the dashboard does not answer, or with another error; try again.
        """
        self.shown = 0  # a new head has a new log
        try:
            body = {"entrypoint": entrypoint, "submission_id": self.submission}
            self._request("POST", "/api/jobs/", body | ({"runtime_env": self.runtime_env} if self.runtime_env else {}))
        except HTTPError as error:
            if error.code in (400, 401, 403):
                raise SubmissionRefusedError(
                    f"Ray rejected the job: HTTP {error.code} {error.read().decode()[:500]}"
                ) from error
            raise

    def follow(self) -> None:
        """Print the log from where it stopped before, until the job ends or the connection breaks."""
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
                self.rayjob.read(new)
        finally:
            connection.close(timeout=1)

    def _next(self, connection: websocket.WebSocket) -> str:
        """Return the next text, or "" at the end. After TIMEOUT_S without any, the job's status decides: a node that
        is cut off closes no connection.
        """
        while True:
            try:
                return str(connection.recv())
            except websocket.WebSocketTimeoutException:
                if self.state() not in RUNNING:
                    return ""

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _request(self, verb: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._headers()}
        request = Request(f"http://{self.address}{path}", data, headers, method=verb)
        with urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)


def run_to_end(ray_job: RayJobClient, entrypoint: str) -> str:
    """Submit the job if needed, follow it, and return its last status.

    Raises:
        SubmissionRefusedError: Ray rejects it, refuses the token for DENIED_S, or gives no answer for SILENCE_S.
    """
    reported, state, answered = "", None, time.monotonic()
    while True:
        try:
            state = ray_job.state()
            answered = time.monotonic()
            if state is None:
                ray_job.submit(entrypoint)
                print(f"submitted Ray job {ray_job.submission}", file=sys.stderr, flush=True)
            ray_job.follow()
            # Ray closes the log of a job that has ended once all of it is sent: asking for it again costs 5 s.
            state = ray_job.state()
            if state in ENDED:
                return str(state)
        except (OSError, HTTPException, websocket.WebSocketException, ValueError) as error:
            if state in ENDED:  # the head may be gone before the rest of its log is read
                return str(state)
            _check_limit(error, ray_job.address, time.monotonic() - answered)
            problem = f"no answer from Ray at {ray_job.address} ({' '.join(str(error).split())[:200]}); retrying"
            if problem != reported:
                print(problem, file=sys.stderr, flush=True)
            reported = problem
        time.sleep(PAUSE_S)


def _check_limit(error: Exception, address: str, silent_s: float) -> None:
    """Raise SubmissionRefusedError if Ray has refused the token, or has not answered, for too long."""
    denied = isinstance(error, HTTPError) and error.code in (401, 403)
    if silent_s > (DENIED_S if denied else SILENCE_S):
        advice = "; the token in RAY_AUTH_TOKEN is not that of this cluster" if denied else ""
        reason = " ".join(str(error).split())[:200]
        raise SubmissionRefusedError(f"no answer from Ray at {address} for {silent_s:.0f} s: {reason}{advice}")


def main() -> int:
    """Return 0 however the job ended: KubeRay reads the result from Ray, and repeats a submitter that fails."""
    # The kernel drops a signal for process 1 that has no handler: the pod would stay for its whole grace, 30 s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    entrypoint = shlex.join(sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:])
    env = os.environ
    address = env["RAY_DASHBOARD_ADDRESS"].removeprefix("http://")
    runtime_env = json.loads(env.get("TRAINER_RUNTIME_ENV") or "{}")
    rayjob, token = RayJobReporter.from_env(env), env.get("RAY_AUTH_TOKEN", "")
    if created := read_scheduled_creation(env):  # the driver knows by it which tick it is of
        runtime_env = {**runtime_env, "env_vars": {**runtime_env.get("env_vars", {}), CREATED: created}}
    ray_job = RayJobClient(address, env["RAY_JOB_SUBMISSION_ID"], token, runtime_env, rayjob)
    try:
        state = run_to_end(ray_job, entrypoint)
    except SubmissionRefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Ray job {ray_job.submission}: {state}", file=sys.stderr)
    rayjob.finish(is_permanent=state == "FAILED" and ray_job.exit_code in PERMANENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
