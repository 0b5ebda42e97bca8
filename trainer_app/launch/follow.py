"""Following a submitted run until it ends: what it waits for, the driver's log, how it ended."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

from urllib3.exceptions import HTTPError, ReadTimeoutError

from trainer_app.errors import StorageError, TrainerError
from trainer_app.launch import cron, location, pods, rayjobs
from trainer_app.launch.changes import Changes
from trainer_app.launch.kube import CONNECT_S, Kube, Object, explain_errors
from trainer_app.launch.stored_logs import LogTail

POLL_S: Final = 1.0
# The longest time to the next look, if neither the RayJob nor a pod changes: events and stored logs have no watch.
STARTING_S: Final = 5.0
RUNNING_S: Final = 30.0
API_RETRY_S: Final = 120.0
SILENCE_S: Final = 30.0  # without a line the job's state is asked for, and the log again
OVERLAP_S: Final = 10  # the machines' clocks, and the answer's way
NEVER: Final = (-1, 0)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?")
Say = Callable[[str], None]


def follow_run(kube: Kube, run: str, *, say: Say, show: Say | None, endpoint: str | None = None) -> int:
    """Follow a run until it ends.

    Args:
        say: called once with each line about the run's state and what it waits for.
        show: called with each line of the driver's log; None: no log.
        endpoint: of the storage, which has the log of a run that has no submitter (HTTPMode).

    Returns:
        0 SUCCEEDED, 1 FAILED, 130 STOPPED or suspended.

    Raises:
        TrainerError: the run is gone or may not be read, or the cluster does not answer for API_RETRY_S.
    """
    with ExitStack() as stack:
        log: DriverLog | LogTail | None = DriverLog(kube, run, show) if show else None
        rayjob = kube.get("RayJob", run)
        if show and rayjob["spec"].get("submissionMode") == "HTTPMode":
            log = _open_stored_log(kube, location.location_of(rayjob), stack, say=say, show=show, endpoint=endpoint)
        say_new = _say_once(say)
        changes = stack.enter_context(Changes(kube, run, cron.schedule_name(rayjob), poll_s=POLL_S))
        while True:
            rayjob = _retry_api(lambda: kube.get("RayJob", run), say)
            say_new([rayjobs.format_state(rayjob)])
            with _report_errors(say_new):
                say_new(find_blockers(kube, rayjob, partial(pods.find_run_pods, kube, rayjob)))
            with _report_errors(say_new):
                if log:
                    log.read()  # takes as long as the submitter's pod lives and says something
            if rayjobs.has_ended(rayjob) and not rayjobs.is_queued(rayjob):
                if isinstance(log, LogTail):
                    with _report_errors(say_new):
                        log.read_rest()
                return rayjobs.exit_code(rayjob)
            changes.wait(_longest_wait_s(rayjob, log))


def _longest_wait_s(rayjob: Object, log: DriverLog | LogTail | None) -> float:
    if isinstance(log, DriverLog) and rayjobs.status(rayjob) == "Running":
        return POLL_S  # the log was silent or broke off: its next line is waited for there
    return STARTING_S if log or rayjobs.status(rayjob) != "Running" else RUNNING_S


def _say_once(say: Say) -> Callable[[list[str]], None]:
    """Return a function that says each line the first time only."""
    seen: set[str] = set()

    def say_new(lines: list[str]) -> None:
        for line in lines:
            if line not in seen:
                seen.add(line)
                say(line)

    return say_new


def _open_stored_log(
    kube: Kube, run_location: location.RunLocation, stack: ExitStack, *, say: Say, show: Say, endpoint: str | None
) -> LogTail | None:
    """Return the log of a run without a submitter, readable while `stack` is open; None if it can't be read from here.

    A run is followed to its end without its log too: the RayJob has the end.
    """
    try:
        stack.enter_context(location.storage_access(kube, run_location, endpoint))
        return LogTail(run_location, show, workers=False)
    except TrainerError as error:
        say(f"the driver's log can't be shown: {error}")
        return None


@contextmanager
def _report_errors(say_new: Callable[[list[str]], None]) -> Iterator[None]:
    """Say what can't be read now: it is read again at the next turn, and changes no exit code."""
    try:
        yield
    except TrainerError as error:
        say_new([str(error)])


def _retry_api(ask: Callable[[], Object], say: Say) -> Object:
    """Call `ask` until the API server answers, for API_RETRY_S. Raises at once if the run is gone or denied."""
    end = time.monotonic() + API_RETRY_S
    is_reported = False
    while True:
        try:
            return ask()
        except StorageError:  # NotFoundError and AccessDeniedError are its subclasses
            raise
        except TrainerError as error:
            if time.monotonic() > end:
                raise
            if not is_reported:
                say(f"{error}; retrying for {API_RETRY_S:.0f} s")
            is_reported = True
            time.sleep(POLL_S)


def find_blockers(kube: Kube, rayjob: Object, list_pods: Callable[[], list[Object]]) -> list[str]:
    """Return why a run does not run, or never ran, a line a reason.

    Args:
        list_pods: lists the run's pods; called only for a run that is to start or runs.
    """
    if rayjobs.is_queued(rayjob):
        return [f"run {rayjob['metadata']['name']} waits in queue {rayjob['metadata']['labels'][rayjobs.QUEUE]}"]
    if rayjobs.has_ended(rayjob):
        return pods.startup_failure(kube, rayjob)
    run_pods = list_pods()
    return [*pods.blocked_pods(run_pods), *pods.warning_events(kube, rayjob, run_pods)]


class DriverLog:
    """The driver's output, from the log of the submitter's pod; each `read` continues after the last line shown.

    A line is known by its time: the kubelet begins a new file when one is full, so that line numbers begin anew.
    """

    def __init__(self, kube: Kube, run: str, show: Say) -> None:
        self.kube, self.run, self.show = kube, run, show
        self.pod = ""
        self.last: tuple[int, int] = NEVER  # the time of the last line shown, and how many lines have that time
        self.seen = 0.0  # when it was shown, on this machine's monotonic clock

    def read(self, *, follow: bool = True) -> bool:
        """Show what is new, until the pod ends or is silent for SILENCE_S, or without `follow` only what is there.

        A new pod's log is shown from its first line. Return whether there was a log.
        """
        started = [pod for pod in pods.list_submitters(self.kube, self.run) if pod["status"]["phase"] != "Pending"]
        if not started:
            return False
        pod = max(started, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
        if pod != self.pod:
            self.pod, self.last = pod, NEVER
        try:
            self._stream(follow=follow)
        except TrainerError as error:
            self.show(f"(the log was interrupted: {error})")
        return True

    def _stream(self, *, follow: bool) -> None:
        options: dict[str, Any] = {"follow": follow, "timestamps": True, "_preload_content": False}
        if self.last != NEVER:
            options["since_seconds"] = math.ceil(time.monotonic() - self.seen) + OVERLAP_S
        with explain_errors(f"read the log of {self.pod}", namespace=self.kube.namespace), _ending_by_silence():
            answer: Any = self.kube.core().read_namespaced_pod_log(
                self.pod, self.kube.namespace, _request_timeout=(CONNECT_S, SILENCE_S), **options
            )
            rest, known = b"", dict([self.last])
            try:
                for chunk in answer.stream(1 << 16):
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        self._show_new(line, known)
            finally:
                answer.close()
            if rest and not follow:
                self._show_new(rest, known)

    def _show_new(self, line: bytes, known: dict[int, int]) -> None:
        """Show a line that was not shown before.

        Args:
            known: how many lines of the last time shown are still to come again.
        """
        at, text = split_time(line.decode(errors="replace"))
        if at is None:  # the kubelet's own words
            self.show(text)
            return
        if at < self.last[0]:
            return
        if known.get(at, 0) > 0:
            known[at] -= 1
            return
        self.last, self.seen = (at, self.last[1] + 1 if at == self.last[0] else 1), time.monotonic()
        self.show(text)


def split_time(line: str) -> tuple[int | None, str]:
    """Return the time with which a line of a pod's log begins, in nanoseconds or None, and the rest of the line."""
    match = _TIME.match(line)
    if not match:
        return None, line
    seconds = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp()
    return int(seconds) * 10**9 + int((match[2] or "").ljust(9, "0")[:9]), line[match.end() :]


@contextmanager
def _ending_by_silence() -> Iterator[None]:
    """End the block if a connection says nothing: whether the job goes on is asked elsewhere."""
    try:
        yield
    except HTTPError as error:
        if not isinstance(getattr(error, "reason", error), ReadTimeoutError):
            raise
