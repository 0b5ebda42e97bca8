"""Logs and the user's code, on real files; processes of their own where output and imports are a process's."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from trainer_app.errors import InputError, NotFoundError, UserCodeError
from trainer_app.run import logs, user_code
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs")).child("toy-1")


def sent(store: Store) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list("")}


# --- logs


def test_a_log_is_sent_in_parts_and_only_what_changed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "PART", 10)
    path, put = tmp_path / "x.log", []
    path.write_bytes(b"0123456789abc")
    growing = logs.GrowingFile(path, "logs/driver/a0001")
    growing.send(store)
    assert sent(store) == {"logs/driver/a0001.000.log": b"0123456789", "logs/driver/a0001.001.log": b"abc"}
    monkeypatch.setattr(type(store), "put", lambda self, key, data: put.append((key, data)))
    growing.send(store)
    with path.open("ab") as file:
        file.write(b"defghijklm")
    growing.send(store)
    assert put == [("logs/driver/a0001.001.log", b"abcdefghij"), ("logs/driver/a0001.002.log", b"klm")]


def test_a_log_begins_where_this_attempt_began(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"of another attempt\n")
    with logs.driver_uploader(store, 2, path), path.open("ab") as file:
        file.write(b"mine\n")
    assert sent(store) == {"logs/driver/a0002.000.log": b"mine\n"}
    path.write_bytes(b"new\n")  # begun anew
    growing = logs.GrowingFile(path, "k", since=19)
    growing.send(store)
    assert sent(store)["k.000.log"] == b"new\n"


def test_a_start_that_was_cut_before_it_was_recorded_keeps_its_log(store: Store) -> None:
    assert logs.number_of_log(store, 1) == 1
    for name in ("a0001.000.log", "a0001-1.000.log", "a0002.000.log", "other.log"):
        store.put(f"logs/driver/{name}", b"")
    assert [logs.number_of_log(store, attempt) for attempt in (1, 3, 5)] == [3, 3, 5]


def test_a_storage_that_fails_costs_nothing_but_time(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x")
    Path(store.uri).parent.write_bytes(b"a file where the storage should be")
    uploader = logs.driver_uploader(store, 1, None)
    uploader.files = [logs.GrowingFile(path, "k"), logs.GrowingFile(tmp_path / "gone", "l")]
    uploader.send()
    Path(store.uri).parent.unlink()
    uploader.send()
    assert sent(store) == {"k.000.log": b"x"}


WORKER = """
import sys
from trainer_app.run import logs
from trainer_app.storage import open_store
store = open_store(sys.argv[1])
logs.upload_output(store)
logs.upload_output(store)
print("out"); sys.stderr.write("err")
"""


@pytest.mark.parametrize("submitted", [True, False])
def test_a_workers_output_is_kept_if_the_run_was_submitted(store: Store, tmp_path: Path, submitted: bool) -> None:
    env = {**os.environ, "TRAINER_SUBMISSION": "s-1" if submitted else ""}
    with (tmp_path / "worker-1.out").open("w") as out, (tmp_path / "worker-1.err").open("w") as err:
        subprocess.run([sys.executable, "-c", WORKER, store.uri], stdout=out, stderr=err, env=env, check=True)
    found = {key.rpartition("/")[2]: data for key, data in sent(store).items()}
    assert found == ({"worker-1.out.000.log": b"out\n", "worker-1.err.000.log": b"err"} if submitted else {})
    assert all(key.startswith("logs/worker-") for key in sent(store))


# --- code


def packed(store: Store, files: dict[str, str]) -> str:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    store.put(f"code/{digest}.zip", data.getvalue())
    return digest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's temporary files, and a path that is this test's."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    return tmp_path / "tmp" / "trainer-code"


def test_code_is_importable_here_and_in_children(store: Store, here: Path) -> None:
    digest = packed(store, {"users_module.py": "WHO = 'the submitted'\n", "users_package/__init__.py": "X = 3\n"})
    assert user_code.install(store, digest) == here / digest
    assert sys.path[0] == str(here / digest)
    assert os.environ["PYTHONPATH"] == f"{here / digest}{os.pathsep}/somewhere"
    import users_module  # type: ignore[import-not-found]

    assert users_module.WHO == "the submitted"
    child = [sys.executable, "-c", "import users_package; print(users_package.X)"]
    assert subprocess.run(child, capture_output=True, text=True, check=True).stdout == "3\n"
    del sys.modules["users_module"]


def test_code_is_fetched_once_a_node(store: Store, here: Path) -> None:
    digest = packed(store, {"m.py": ""})
    user_code.install(store, digest)
    store.delete_prefix("code")
    assert user_code.install(store, digest) == here / digest
    assert sys.path.count(str(here / digest)) == 1
    assert user_code.install(store, "") is None


def test_other_bytes_than_the_submitted_ones_are_refused(store: Store, here: Path) -> None:
    digest = packed(store, {"m.py": ""})
    store.put(f"code/{digest}.zip", store.get(f"code/{digest}.zip") + b" ")
    with pytest.raises(UserCodeError, match="is not the code that was submitted"):
        user_code.install(store, digest)
    assert [path.name for path in here.iterdir()] == [f"{digest}.lock"]


@pytest.mark.parametrize("name", ["../m.py", "/m.py", "a/../../m.py", "a\\..\\m.py"])
def test_an_archive_writes_nothing_outside_its_folder(store: Store, here: Path, name: str) -> None:
    with pytest.raises(UserCodeError, match="outside its folder"):
        user_code.install(store, packed(store, {name: ""}))


def test_what_is_no_archive_or_no_digest_is_said(store: Store, here: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    with pytest.raises(NotFoundError):
        user_code.install(store, digest)
    store.put(f"code/{digest}.zip", b"x")
    with pytest.raises(UserCodeError, match="not a zip file"):
        user_code.install(store, digest)
    for wrong in ("abc", "../../../etc", "Z" * 64):
        with pytest.raises(InputError, match="TRAINER_CODE must be the SHA-256"):
            user_code.install(store, wrong)


def test_code_of_a_folder_that_others_can_write_is_not_imported(store: Store, here: Path) -> None:
    here.mkdir()
    here.chmod(0o777)
    with pytest.raises(InputError, match="only this user can write"):
        user_code.install(store, packed(store, {"m.py": ""}))
