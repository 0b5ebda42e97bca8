"""Fetching with real processes, a real S3 server and torchvision: once a node, whole or not at all, and in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.s3 import S3
from tests.unit.idx_files import TRAIN, images, write_set
from trainer_app.errors import AccessDeniedError
from trainer_app.examples.data import download, load_arrays, resolve_source, sources
from trainer_app.examples.data.digits import CHECKSUM
from trainer_app.examples.data.idx import Arrays, DataError, read_folder
from trainer_app.storage import open_store

pytestmark = pytest.mark.local

# A process that wants the data of argv[1]; each read of the source adds a letter to argv[2].
READER = """
import sys, time
from trainer_app.examples.data import choose, sources, resolve_source, load_arrays
source, counter, seconds = sys.argv[1:]
def counted(files, read=sources.read_folder):
    with open(counter, "a") as f:
        f.write("x")
    time.sleep(float(seconds))
    return read(files)
sources.read_folder = counted
args = resolve_source({"source": source}, dataset="MNIST")
print(args["checksum"], load_arrays(args["source"], dataset="MNIST", checksum=args["checksum"]).train_images.sum())
"""


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's cache, empty; no data in sight."""
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRAINER_DATA", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


@pytest.fixture
def s3_source(s3: S3, tmp_path: Path) -> str:
    folder = write_set(tmp_path / "origin", gz=True)
    for path in folder.iterdir():
        open_store(s3.uri).put_file(f"MNIST/raw/{path.name}", path)
    return s3.uri


def reader(source: str, counter: Path, *, seconds: float) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", READER, source, str(counter), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_four_processes_at_once_fetch_once(s3_source: str, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    processes = [reader(s3_source, counter, seconds=1) for _ in range(4)]
    said = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert counter.read_text() == "x"
    assert len(said) == 1 and said.pop().split()[1] == str(images(TRAIN, 0).sum())


def test_a_killed_fetcher_leaves_nothing_half_written(node: Path, s3_source: str, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    killed = reader(s3_source, counter, seconds=60)
    wait_for(counter.exists)
    assert len(list(node.glob("partial-*/*.gz"))) == 4  # it died while it had files
    waiting = reader(s3_source, counter, seconds=0)
    time.sleep(1)
    killed.kill()
    said = waiting.communicate(timeout=120)[0]
    assert killed.wait() == -signal.SIGKILL and waiting.returncode == 0
    assert counter.read_text() == "xx" and said.split()[1] == str(images(TRAIN, 0).sum())
    assert not list(node.glob("partial-*")) and not list((node / "locks").glob("partial-*"))
    assert len(list((node / "sets").iterdir())) == 1


def test_s3_is_read_again_only_when_it_changed(s3_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    read = read_folder

    def counted(files: dict[str, Path]) -> Arrays:
        counts.append(1)
        return read(files)

    monkeypatch.setattr(sources, "read_folder", counted)
    first = resolve_source({"source": s3_source}, dataset="MNIST")
    assert resolve_source({"source": s3_source}, dataset="MNIST") == first == {"source": s3_source, **first}
    assert len(counts) == 1
    time.sleep(1.1)  # S3 counts in seconds
    changed = write_set(tmp_path / "changed", gz=True, seed=1)
    for path in changed.iterdir():
        open_store(s3_source).put_file(f"MNIST/raw/{path.name}", path)
    with pytest.raises(DataError, match="the run started with"):
        resolve_source(first, dataset="MNIST")
    assert resolve_source({"source": s3_source}, dataset="MNIST")["checksum"] != first["checksum"]


def test_another_node_refuses_other_data(s3_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = resolve_source({"source": s3_source}, dataset="MNIST")
    for path in write_set(tmp_path / "changed", gz=True, seed=1).iterdir():
        open_store(s3_source).put_file(f"MNIST/raw/{path.name}", path)
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "another"))
    with pytest.raises(DataError, match="the run started with"):
        load_arrays(s3_source, dataset="MNIST", checksum=args["checksum"])


def test_an_s3_prefix_without_the_files_is_named(s3: S3) -> None:
    with pytest.raises(DataError, match=f"{s3.uri}.*: not all of train-images-idx3-ubyte.*nor under MNIST/"):
        resolve_source({"source": s3.uri}, dataset="MNIST")


def test_a_damaged_object_is_named(s3_source: str, node: Path) -> None:
    open_store(s3_source).put("MNIST/raw/train-images-idx3-ubyte.gz", b"x")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not a complete IDX file"):
        resolve_source({"source": s3_source}, dataset="MNIST")
    assert not list(node.glob("partial-*"))


def test_wrong_keys_are_said(s3_source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AccessDeniedError):
        resolve_source({"source": s3_source}, dataset="MNIST")


@pytest.mark.parametrize("network", ["refuses", "says nothing"])
def test_auto_without_a_network_falls_back_in_time(
    network: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, node: Path
) -> None:
    """torchvision's own download, through a proxy that is closed, or that accepts and never answers."""
    took: list[float] = []

    def timed(*args: Any, **options: Any) -> None:
        """The seconds bound the download; the digits after it, read and cached, are not in them."""
        start = time.monotonic()
        try:
            download.download(*args, **options)
        finally:
            took.append(time.monotonic() - start)

    monkeypatch.setattr(sources, "download", timed)
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        if network == "says nothing":
            proxy.listen()
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        others = set(psutil.Process().children())
        assert resolve_source({"source": "auto"}, dataset="MNIST") == {"source": "digits", "checksum": CHECKSUM}
    assert len(took) == 1 and took[0] <= 12
    assert took[0] >= 9.9 or network == "refuses"
    assert "using scikit-learn's digits instead" in caplog.text
    assert set(psutil.Process().children()) <= others
    assert not list(node.glob("partial-*"))


def test_the_hosts_are_torchvisions() -> None:
    from torchvision import datasets

    theirs = {name: tuple(urlsplit(m).hostname for m in getattr(datasets, name).mirrors) for name in download.HOSTS}
    assert theirs == download.HOSTS


def test_a_machine_without_names_does_not_import_torchvision(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-X", "importtime", "-c", download.CHILD, "MNIST", str(tmp_path), "60", "a.invalid"]
    ended = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "no network: no address of a.invalid" in ended.stderr
    assert "torch" not in ended.stderr


def test_a_download_whose_parent_was_killed_ends_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", download.CHILD, "MNIST", str(tmp_path), "1"]  # a second: shorter than the imports
    ended = subprocess.run([*command, "localhost"], timeout=60)
    assert ended.returncode == -signal.SIGALRM


def wait_for(true: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "waited for a minute"
        time.sleep(0.05)
