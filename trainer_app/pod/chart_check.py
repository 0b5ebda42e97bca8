"""What `helm test` runs in a pod: checks of the storage and of Ray's dashboard.

    python -m trainer_app.pod.chart_check

Reads TRAINER_STORAGE_URI (and AWS_*), RAY_DASHBOARD_ADDRESS (host:port) and RAY_AUTH_TOKEN; a check whose variable is
not set is skipped. The exit code is 0, or 1 with a line on stderr.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from trainer_app.errors import TrainerError
from trainer_app.storage.round_trip import check_round_trip

DASHBOARD_WAIT_S: Final = 120.0  # a head that was just created
PAUSE_S: Final = 2.0


def check_dashboard(address: str, token: str, *, wait_s: float = DASHBOARD_WAIT_S) -> str:
    """Ask Ray's dashboard for its version; return a line with the answer.

    Args:
        address: host:port.
        token: Ray's; with "" the right answer is 401.
        wait_s: seconds to wait for an answer.

    Raises:
        TrainerError: no answer in time, or a wrong one.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            return f"dashboard {address}: {_ask_version(address, token)}"
        except (URLError, OSError) as error:
            if time.monotonic() > end:
                reason = " ".join(str(error).split())
                raise TrainerError(f"dashboard {address} gave no answer within {wait_s:g} s: {reason}") from error
        time.sleep(PAUSE_S)


def _ask_version(address: str, token: str) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(Request(f"http://{address}/api/version", headers=headers), timeout=10) as answer:
            status = f"HTTP {answer.status}"
    except HTTPError as error:
        if error.code == 401 and not token:
            return "answers, and requires the token"
        raise TrainerError(f"dashboard {address} answers HTTP {error.code}") from error
    if not token:
        raise TrainerError(f"dashboard {address} answers {status} without a token: token authentication is off")
    return f"answers {status} with the token"


def main() -> int:
    """Run the checks; return 0, or 1 if one fails."""
    env = os.environ
    try:
        if uri := env.get("TRAINER_STORAGE_URI"):
            print(f"storage {check_round_trip(uri)}", flush=True)
        else:
            print("storage: not checked, since each run names its own", flush=True)
        if address := env.get("RAY_DASHBOARD_ADDRESS"):
            print(check_dashboard(address, env.get("RAY_AUTH_TOKEN", "")), flush=True)
    except TrainerError as error:
        print(f"error: {error} (from pod {socket.gethostname()})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
