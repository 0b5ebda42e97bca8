"""A submitted run until it ends: what it waits for, the driver's log, how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from trainer_app.errors import StorageError, TrainerError
from trainer_app.launch import location, pods, rayjobs
from trainer_app.launch.kube import Kube, Object, explain_errors
from trainer_app.launch.stored_logs import LogTail

POLL_S: Final = 1.0
PATIENCE_S: Final = 120.0
Say = Callable[[str], None]


def follow_run(kube: Kube, run: str, *, say: Say, show: Say | None, endpoint: str | None = None) -> int:
    """Follow a run.

    Args:
        say: takes what a person should know: the state, and what holds it up, once each.
        show: takes the driver's log, line by line; None: no log.
        endpoint: of the storage, which has the log of a run that has no submitter (HTTPMode).

    Returns:
        0 SUCCEEDED, 1 FAILED, 130 STOPPED or suspended.
    """
    with ExitStack() as stack:
        log: DriverLog | LogTail | None = DriverLog(kube, run, show) if show else None
        rayjob = kube.get("RayJob", run)
        if show and rayjob["spec"].get("submissionMode") == "HTTPMode":
            log = _open_stored_log(kube, location.location_of(rayjob), stack, say=say, show=show, endpoint=endpoint)
        once = _say_once(say)
        while True:
            rayjob = _retry_api(lambda: kube.get("RayJob", run), say)
            once([rayjobs.format_state(rayjob), *_find_blockers_or_error(kube, rayjob)])
            once(_show_new(log))  # takes as long as the submitter's pod lives
            if rayjobs.has_ended(rayjob) and not rayjobs.is_queued(rayjob):
                return rayjobs.exit_code(rayjob)
            time.sleep(POLL_S)


def _say_once(say: Say) -> Callable[[list[str]], None]:
    """Says each line the first time only."""
    told: set[str] = set()

    def tell(lines: list[str]) -> None:
        for line in lines:
            if line not in told:
                told.add(line)
                say(line)

    return tell


def _open_stored_log(
    kube: Kube, run_location: location.RunLocation, stack: ExitStack, *, say: Say, show: Say, endpoint: str | None
) -> LogTail | None:
    """The log of a run without a submitter, while `stack` is open; None, and words, where it can't be read from here.

    A run is followed to its end without its log too: what ends is told by the RayJob.
    """
    try:
        stack.enter_context(location.storage_access(kube, run_location, endpoint))
        return LogTail(run_location, show, workers=False)
    except TrainerError as error:
        say(f"there is no log to show: {error}")
        return None


def _show_new(log: DriverLog | LogTail | None) -> list[str]:
    """Shows what is new. Returns why that can't be read now: it is asked for again, and changes no exit code."""
    try:
        if log:
            log.read()
    except TrainerError as error:
        return [str(error)]
    return []


def _retry_api(ask: Callable[[], Object], say: Say) -> Object:
    """The answer, also of an API server that is away for a moment: a run goes on without it.

    Raises:
        TrainerError: what is no accident (no such run, no right), at once; no answer, after PATIENCE_S.
    """
    end = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            return ask()
        except StorageError:  # NotFoundError and AccessDeniedError are such
            raise
        except TrainerError as error:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"{error}; asking again for {PATIENCE_S:.0f} s")
            told = True
            time.sleep(POLL_S)


def find_blockers(kube: Kube, rayjob: Object, found: Callable[[], list[Object]]) -> list[str]:
    """Why the run does not run, or never ran, from its pods and from events; nothing for one that runs or that ran.

    Args:
        found: asks for its pods, where they matter.
    """
    if rayjobs.is_queued(rayjob):
        return [f"run {rayjob['metadata']['name']} waits in queue {rayjob['metadata']['labels'][rayjobs.QUEUE]}"]
    if rayjobs.has_ended(rayjob):
        return pods.startup_failure(kube, rayjob)
    there = found()
    return [*pods.blocked_pods(there), *pods.warning_events(kube, rayjob, there)]


def _find_blockers_or_error(kube: Kube, rayjob: Object) -> list[str]:
    """As `find_blockers`; in a loop, what can't be asked now is asked at the next turn."""
    try:
        return find_blockers(kube, rayjob, lambda: pods.list_run_pods(kube, rayjob["metadata"]["name"]))
    except TrainerError as error:
        return [str(error)]


class DriverLog:
    """The driver's output, which the submitter's pod follows. Goes on where it stopped, also in a new pod."""

    def __init__(self, kube: Kube, run: str, show: Say) -> None:
        self.kube, self.run, self.show = kube, run, show
        self.pod, self.lines = "", 0

    def read(self, *, follow: bool = True) -> bool:
        """Shows what is new, until the pod ends or only what is there.

        Returns:
            False, at once, where no pod has a log.
        """
        started = [pod for pod in pods.list_submitters(self.kube, self.run) if pod["status"]["phase"] != "Pending"]
        if not started:
            return False
        pod = max(started, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
        if pod != self.pod:
            self.pod, self.lines = pod, 0
        try:
            self._stream(follow=follow)
        except TrainerError as error:
            self.show(f"(the log broke off: {error})")
        return True

    def _stream(self, *, follow: bool) -> None:
        what = f"read the log of {self.pod}"
        with explain_errors(what, kind="Pod", name=self.pod, namespace=self.kube.namespace):
            answer: Any = self.kube.core().read_namespaced_pod_log(
                self.pod, self.kube.namespace, follow=follow, _preload_content=False
            )
            rest, number = b"", 0
            for chunk in answer.stream(1 << 16):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    number += 1
                    if number > self.lines:
                        self.lines = number
                        self.show(line.decode(errors="replace"))
            if rest and number + 1 > self.lines and not follow:
                self.show(rest.decode(errors="replace"))
