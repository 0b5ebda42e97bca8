"""The submission that this process belongs to, and the process itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainer_app.errors import InputError

SUBMISSION = "TRAINER_SUBMISSION"
FROM_CLUSTER = "TRAINER_RUN_FROM_CLUSTER"
SUFFIX = 6  # what KubeRay adds to a RayJob's name for its cluster: a dash and 5 characters


def current_submission(env: Mapping[str, str] | None = None) -> str | None:
    """Return the submission's id; None for a run that a user starts on this machine.

    A RayJob that a RayCronJob creates has no launcher: its own name, which no other has, is the id.
    """
    env = os.environ if env is None else env
    return env.get(SUBMISSION) or run_from_cluster(env)


def run_from_cluster(env: Mapping[str, str]) -> str | None:
    """Return the name of RayJob and run if TRAINER_RUN_FROM_CLUSTER=1: RAY_CLUSTER_NAME without KubeRay's suffix.

    Raises:
        InputError: RAY_CLUSTER_NAME, which KubeRay sets in Ray's containers, is missing or has no suffix.
    """
    if env.get(FROM_CLUSTER) != "1":
        return None
    cluster = env.get("RAY_CLUSTER_NAME", "")
    name, dash = cluster[:-SUFFIX], cluster[-SUFFIX : -SUFFIX + 1]
    if not name or dash != "-":
        form = "RAY_CLUSTER_NAME (<name>-<5 characters>)"
        raise InputError(f"{FROM_CLUSTER}=1 takes the run's name from {form}, not {cluster!r}; set TRAINER_RUN instead")
    return name


def ray_cluster_name() -> str:
    """Return the name of the RayCluster that this process is in, as KubeRay sets it; "" elsewhere."""
    return os.environ.get("RAY_CLUSTER_NAME", "")


@dataclass(frozen=True)
class Process:
    """One process, described so that another one can find out whether it is still alive."""

    host: str
    pid: int
    machine: str = ""  # one boot of one machine and one PID namespace in it; "" if the system doesn't say
    began: int = 0  # start of the process in ticks since boot; 0 if the system doesn't say

    @property
    def name(self) -> str:
        """The host and the PID, for messages."""
        return f"{self.host}:{self.pid}"

    def is_dead(self) -> bool:
        """Return whether it has certainly ended: it ran on this machine, in this PID namespace, and is gone.

        False for a process of another machine, which can't be observed here. The same host name is not enough: a head
        pod that was deleted by force may still run on a node that is cut off, under the name of its replacement.
        """
        here = this_process()
        if self.host != here.host or self.machine != here.machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's: alive
            return False
        return _state_and_began(self.pid) != ("alive", self.began) if self.began else False


@lru_cache(maxsize=1)
def _process(pid: int) -> Process:
    return Process(socket.gethostname(), pid, _machine(), _state_and_began(pid)[1])


def this_process() -> Process:
    """Describe this process."""
    return _process(os.getpid())


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: the host's name has to do
        return ""


def start_ticks(pid: int) -> int:
    """Return when a process of this machine began, in ticks since boot.

    Raises:
        OSError, ValueError: the system doesn't say.
    """
    return int(_stat(pid)[19])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _state_and_began(pid: int) -> tuple[str, int]:
    """Return ("alive" | "dead", ticks since boot); a zombie is dead. ("alive", 0) if the system doesn't say."""
    try:
        fields = _stat(pid)
    except FileNotFoundError:
        return ("dead", 0) if Path("/proc/self/stat").exists() else ("alive", 0)
    except OSError:
        return "alive", 0
    return ("dead" if fields[0] in "ZX" else "alive"), int(fields[19])
