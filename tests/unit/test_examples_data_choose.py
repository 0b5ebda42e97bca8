"""Which data a run uses: the choice, its checksum, what is refused, and what `auto` does."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.idx_files import FASHION, NO_FASHION, TRAIN, images, packed, write_set
from trainer_app.examples.data import cache, choose, digits, download, load_arrays, resolve_source
from trainer_app.examples.data.digits import CHECKSUM
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.data.sources import download_source

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no data in sight, and a network that takes no time to be away."""
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRAINER_DATA", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(choose, "SYSTEM_FOLDERS", {})
    monkeypatch.setattr(download, "CHILD", "import sys; sys.exit('no network')")


def settled(source: str, dataset: str = "MNIST", **init_args: Any) -> dict[str, Any]:
    return resolve_source({"source": source, **init_args}, dataset=dataset)


@pytest.mark.parametrize("layout", ["", "MNIST/raw", "MNIST"])
@pytest.mark.parametrize("gz", [False, True])
def test_a_folder_is_found_in_each_layout(tmp_path: Path, layout: str, gz: bool) -> None:
    write_set(tmp_path / "d" / layout, gz=gz)
    args = settled(str(tmp_path / "d"), batch_size=8)
    assert args == {"source": str(tmp_path / "d"), "batch_size": 8, "checksum": args["checksum"]}
    data = load_arrays(args["source"], dataset="MNIST", checksum=args["checksum"])
    assert (data.train_images == images(TRAIN, 0)).all()


def test_packed_and_unpacked_are_the_same_data(tmp_path: Path) -> None:
    write_set(tmp_path / "a")
    write_set(tmp_path / "b", gz=True)
    write_set(tmp_path / "c", seed=1)
    a, b, c = (settled(str(tmp_path / name))["checksum"] for name in "abc")
    assert a == b != c and a.startswith("sha256:")


def test_a_relative_folder_is_made_absolute(tmp_path: Path) -> None:
    write_set(Path("here"))
    assert settled("here")["source"] == str(tmp_path / "work" / "here")
    assert settled(f"file://{tmp_path}/work/here")["source"] == str(tmp_path / "work" / "here")


@pytest.mark.parametrize(
    "source, message",
    [
        ("digit", "no folder .*/digit on this machine; allowed: auto, download, digits, a folder"),
        ("gs://bucket/x", "unknown kind 'gs'; allowed: auto"),
        (".", "holds none of train-images-idx3-ubyte"),
        ("half", "holds train-images-idx3-ubyte only; all of"),
        ("fashion", "holds no MNIST; if FashionMNIST is what you mean, write source: .*/fashion/FashionMNIST/raw"),
    ],
)
def test_what_is_no_source_is_refused_in_a_line(source: str, message: str) -> None:
    Path("half").mkdir()
    Path("half/train-images-idx3-ubyte").write_bytes(packed(images(TRAIN, 0)))
    write_set(Path("fashion/FashionMNIST/raw"))
    with pytest.raises(DataError, match=message) as e:
        settled(source)
    assert "\n" not in str(e.value)


def test_other_data_than_the_run_began_with_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "d")
    args = settled(str(tmp_path / "d"))
    write_set(tmp_path / "d", seed=1)
    # On this node the data that the run started with is still in the cache: it resumes with that.
    assert (load_arrays(**as_load(args)).train_images == images(TRAIN, 0)).all()
    # The driver of a retry, and a worker on another node, see the other data.
    with pytest.raises(DataError, match=r"holds sha256:\w+\.\.\., the run started with sha256:\w+\.\.\.; restore"):
        resolve_source(args, dataset="MNIST")
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="the run started with"):
        load_arrays(**as_load(args))


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    write_set(tmp_path / "d")
    first = settled(str(tmp_path / "d"))["checksum"]
    time.sleep(0.02)
    write_set(tmp_path / "d", seed=1)
    assert settled(str(tmp_path / "d"))["checksum"] != first


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_copy_in_the_cache_is_fetched_again(tmp_path: Path, damage: str) -> None:
    write_set(tmp_path / "d")
    args = settled(str(tmp_path / "d"))
    path = next((tmp_path / "cache/sets").glob("*/train_images.npy"))
    data = path.read_bytes()
    path.write_bytes({"flip": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "cut": data[:-9], "remove": b""}[damage])
    if damage == "remove":
        path.unlink()
    assert (load_arrays(**as_load(args)).train_images == images(TRAIN, 0)).all()
    assert path.read_bytes() == data
    settled("digits")
    assert not list((tmp_path / "cache").glob("partial-*"))


def test_the_arrays_are_one_file_for_all_and_safe_to_write(tmp_path: Path) -> None:
    write_set(tmp_path / "d")
    args = settled(str(tmp_path / "d"))
    mine = load_arrays(**as_load(args))
    mine.train_images[:] = 0
    assert (load_arrays(**as_load(args)).train_images == images(TRAIN, 0)).all()
    if sys.platform == "linux":
        assert str(tmp_path / "cache/sets") in Path(f"/proc/{os.getpid()}/maps").read_text()


def test_digits_are_read_once_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled("digits") == {"source": "digits", "checksum": CHECKSUM}
    monkeypatch.setattr(digits, "read_digits", lambda: pytest.fail("read again"))
    assert len(load_arrays("digits", dataset="MNIST", checksum=CHECKSUM).test_labels) == 180
    assert settled("digits", dataset="FashionMNIST")["checksum"] == CHECKSUM


def test_auto_takes_what_trainer_data_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_DATA", str(write_set(tmp_path / "d", gz=True)))
    write_set(Path("data/MNIST/raw"), seed=1)
    assert settled("auto")["source"] == str(tmp_path / "d")


def test_auto_takes_the_folder_data(tmp_path: Path) -> None:
    write_set(Path("data/MNIST/raw"), seed=1)
    write_set(Path("data/FashionMNIST/raw"), seed=2)
    args = resolve_source({}, dataset="MNIST")
    assert args["source"] == str(tmp_path / "work/data")
    assert (load_arrays(**as_load(args)).train_images == images(TRAIN, 1)).all()
    fashion = resolve_source({}, dataset="FashionMNIST")
    assert fashion["checksum"] != args["checksum"]


def test_auto_never_takes_fashion_mnist_for_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files have the same names."""
    if not FASHION.is_dir():
        pytest.skip(NO_FASHION)
    monkeypatch.setenv("TRAINER_DATA", str(FASHION))
    assert settled("auto", "MNIST")["source"] == "digits"
    assert settled("auto", "FashionMNIST") == {"source": str(FASHION), "checksum": choose.FASHION_MNIST_CHECKSUM}
    assert settled(str(FASHION), "MNIST")["checksum"] == choose.FASHION_MNIST_CHECKSUM  # asked for by name


def test_auto_takes_debians_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert choose.SYSTEM_FOLDERS["FashionMNIST"] == (str(FASHION),)


def test_auto_without_anything_says_so_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert settled("auto", lr=1) == {"source": "digits", "checksum": CHECKSUM, "lr": 1}
    (record,) = caplog.records
    assert record.getMessage() == (
        "data: no MNIST in data, and torchvision's download of MNIST failed: no network; using scikit-learn's digits"
        " instead"
    )


def test_damaged_files_are_no_reason_to_take_other_data() -> None:
    write_set(Path("data/MNIST/raw"))
    Path("data/MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: not a complete IDX file"):
        settled("auto")


FETCHED = """
import shutil, sys
shutil.copytree({origin!r}, sys.argv[2] + "/" + sys.argv[1] + "/raw")
with open({counter!r}, "a") as f: f.write("x")
"""


def test_a_download_is_made_once_and_then_found_by_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, counter = write_set(tmp_path / "origin", gz=True), tmp_path / "count"
    monkeypatch.setattr(download, "CHILD", FETCHED.format(origin=str(origin), counter=str(counter)))
    args = settled("auto")
    assert args["source"] == "download"
    shutil.rmtree(origin)
    assert settled("auto") == settled("download") == args
    assert (load_arrays(**as_load(args)).train_images == images(TRAIN, 0)).all()
    assert counter.read_text() == "x"


def test_a_download_that_fails_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="torchvision's download of MNIST failed: no network"):
        settled("download")
    assert not list((tmp_path / "cache").glob("partial-*"))


def test_a_download_is_ended_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(download, "CHILD", child)
    monkeypatch.setattr(choose, "AUTO_SECONDS", 2.0)
    start = time.monotonic()
    assert settled("auto")["source"] == "digits"
    assert 1.9 < time.monotonic() - start < 6
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_download_that_another_process_is_at_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose, "AUTO_SECONDS", 0.5)
    key = hashlib.sha256(download_source("MNIST", seconds=lambda: 1).key.encode()).hexdigest()[:16]
    with cache.lock(key, cache=tmp_path / "cache"):
        assert settled("auto")["source"] == "digits"
    assert "another process has fetched it" in caplog.text


def test_a_pinned_checksum_is_not_for_auto(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name the source"):
        load_arrays("auto", dataset="MNIST", checksum="sha256:00")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match=r"TRAINER_CACHE=.*file/cache: cannot be written: .*; name a folder"):
        settled("digits")


def test_the_cache_moves_to_the_temporary_folder_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("TRAINER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg/trainer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache.cache_dir() == tmp_path / f"trainer-cache-{os.getuid()}"
    assert cache.cache_dir().stat().st_mode & 0o777 == 0o700


def as_load(args: dict[str, Any]) -> dict[str, Any]:
    return {"source": args["source"], "dataset": "MNIST", "checksum": args["checksum"]}
