"""torchvision's download of MNIST and Fashion-MNIST, in a process that can be killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from trainer_app.examples.data.idx import DataError

# Where torchvision downloads from. Without an address for these names, torchvision is not imported: 3 s.
HOSTS: Final = {
    "MNIST": ("ossci-datasets.s3.amazonaws.com", "yann.lecun.com"),
    "FashionMNIST": ("fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
}

# torchvision opens its URLs without a time limit. The alarm ends the child if its parent was killed.
BEGIN: Final = """
import signal, socket, sys, urllib.request
name, folder, seconds, *hosts = sys.argv[1:]
signal.alarm(int(seconds))
def known(host):
    try:
        return socket.getaddrinfo(host, 80)
    except OSError:
        return []
if not urllib.request.getproxies() and not any(known(host) for host in hosts):
    sys.exit("no network: no address of " + " or ".join(hosts))
"""
CHILD: Final = (
    BEGIN
    + """
import torchvision.datasets
getattr(torchvision.datasets, name)(folder, train=True, download=True)
"""
)
WEIGHTS_CHILD: Final = (
    BEGIN
    + """
import torchvision.models
torchvision.models.get_weight(name).get_state_dict(progress=False, check_hash=True, model_dir=folder)
"""
)
WEIGHTS_SECONDS: Final = 900.0


class DownloadError(DataError):
    """A download that failed: no network, a server that refused, or too little time."""


def download(dataset: str, folder: Path, *, seconds: float) -> None:
    """Run torchvision's download.

    Args:
        dataset: MNIST or FashionMNIST.
        folder: what it is downloaded into.
        seconds: after which it is killed.

    Raises:
        DownloadError: no network, a server that refused, or too little time.
    """
    _run(CHILD, dataset, folder, hosts=HOSTS[dataset], seconds=seconds)


def download_weights(name: str, folder: Path, *, host: str) -> None:
    """Run torchvision's download of weights, which verifies them.

    Args:
        name: of torchvision, as `EfficientNet_B0_Weights.IMAGENET1K_V1`.
        folder: what they are downloaded into, under their own file's name.
        host: where they are.

    Raises:
        DownloadError: no network, a server that refused, or too little time.
    """
    _run(WEIGHTS_CHILD, name, folder, hosts=(host,), seconds=WEIGHTS_SECONDS)


def _run(code: str, name: str, folder: Path, *, hosts: tuple[str, ...], seconds: float) -> None:
    seconds = max(seconds, 0.1)
    child = [sys.executable, "-c", code, name, str(folder), str(math.ceil(seconds) + 1), *hosts]
    process = subprocess.Popen(
        child, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as e:
        raise DownloadError(f"torchvision's download of {name} took more than {seconds:.0f} s") from e
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        lines = stderr.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise DownloadError(f"torchvision's download of {name} failed: {lines[-1][:300]}")
