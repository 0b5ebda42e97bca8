"""`helm test`, in a pod of the run: an object goes into the storage, comes back and is deleted; the dashboard answers.

Reads TRAINER_STORAGE_URI (and AWS_*), RAY_DASHBOARD_ADDRESS (host:port) and RAY_AUTH_TOKEN; what is not set is not
tried. Ends with 0, or 1 and a line on stderr.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from trainer_app.errors import TrainerError
from trainer_app.pod.probe import round_trip
from trainer_app.storage import open_store

DASHBOARD_WAIT_S: Final = 120.0  # a head that was just created
PAUSE_S: Final = 2.0


def check_storage(uri: str) -> str:
    """Put, get and delete one object. Returns what to say.

    Raises:
        TrainerError: the storage's own words, or another content than was written.
    """
    round_trip(open_store(uri), f".helm-test/{secrets.token_hex(8)}")
    return f"storage {uri}: put, got and deleted an object"


def check_dashboard(address: str, token: str, *, wait_s: float = DASHBOARD_WAIT_S) -> str:
    """Ask Ray for its version. Without a token its 401 is the answer that is wanted.

    Raises:
        TrainerError: no answer within `wait_s` seconds, or another one.
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
            said = f"HTTP {answer.status}"
    except HTTPError as error:
        if error.code == 401 and not token:
            return "answers, and asks for the token"
        raise TrainerError(f"dashboard {address} answers HTTP {error.code}") from error
    if not token:
        raise TrainerError(f"dashboard {address} answers {said} without a token: token authentication is off")
    return f"answers {said} with the token"


def main() -> int:
    env = os.environ
    try:
        if uri := env.get("TRAINER_STORAGE_URI"):
            print(check_storage(uri), flush=True)
        else:
            print("no storage is set here, so none was tried: each run names its own", flush=True)
        if address := env.get("RAY_DASHBOARD_ADDRESS"):
            print(check_dashboard(address, env.get("RAY_AUTH_TOKEN", "")), flush=True)
    except TrainerError as error:
        print(f"error: {error} (from pod {socket.gethostname()})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
