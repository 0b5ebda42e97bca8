"""A store in a folder, and what `open_store` takes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.store_contract import StoreContract, keys, killed_writer
from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, StorageError
from trainer_app.results.listing import list_runs
from trainer_app.storage import Store, open_store, split_uri
from trainer_app.storage import folder as folder_module
from trainer_app.storage.folder import FolderStore

pytestmark = pytest.mark.unit
SECRET = "wJalrXUtnFEMI"


class TestFolder(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path / "my runs"))


def test_a_killed_writer_leaves_temp_files_that_nobody_sees(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write = partial(store.put, "x/big", bytes(8_000_000))  # one body: on tmpfs, making another takes longer than this
    for number in range(20):
        killed_writer(write, 0.003 * number)
        if any((tmp_path / "x").glob(".tmp-*")):
            break
    assert any((tmp_path / "x").glob(".tmp-*")), "no writer was killed while it wrote"
    store.delete("x/big")
    assert keys(store) == [] and store.list_folders() == []
    store.delete_prefix("x")
    assert not (tmp_path / "x").exists()


def test_an_emptied_folder_is_no_name(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("run-1/trials/t1/trial.json", b"")
    store.delete("run-1/trials/t1/trial.json")
    assert (tmp_path / "run-1" / "trials" / "t1").is_dir()
    assert store.list_folders() == store.list_folders("run-1/trials") == []


def test_writes_are_synced_before_they_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink()) if sys.platform == "linux" else ""
        calls.append(f"sync {'temp' if '.tmp-' in name else Path(name).name}")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    open_store(str(tmp_path)).put("new/object", b"x")
    if sys.platform == "linux":
        assert calls == [f"sync {tmp_path.name}", "sync temp", "rename", "sync new"]
    else:
        assert len(calls) == 4 and calls[2] == "rename"


def test_without_hard_links_one_creator_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # what FAT says

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = open_store(str(tmp_path))
    store.put("a", b"first", create=True)
    with pytest.raises(AlreadyExistsError):
        store.put("a", b"second", create=True)
    assert store.get("a") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_create_that_the_server_did_twice_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the answer to link(2) is lost, the repeated request finds the name taken, by us."""
    link = Path.hardlink_to

    def twice(self: Path, target: Path) -> None:
        link(self, target)
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", twice)
    open_store(str(tmp_path)).put("a", b"x", create=True)
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_folder_removed_during_a_write_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path))
    make = folder_module._make_folder
    times: list[int] = []

    def remove_once(path: Path) -> None:
        make(path)
        times.append(1)
        if len(times) == 1:
            path.rmdir()

    monkeypatch.setattr(folder_module, "_make_folder", remove_once)
    store.put("a/b", b"x")
    assert store.get("a/b") == b"x" and len(times) == 2


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(str(tmp_path / "file"))
    below = open_store(str(tmp_path / "file" / "runs"))
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b""),
        lambda: below.put("a/b", b""),
        lambda: store.put("a", b"", create=True),
        store.list_folders,
        store.list,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="file is a file where a folder should be; move it away or choose") as e:
            call()
        assert "\n" not in str(e.value)
    open_store(str(tmp_path)).put("folder/x", b"")
    with pytest.raises(StorageError, match="folder is a folder where an object should be"):
        open_store(str(tmp_path)).put("folder", b"")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def in_process(call: Callable[[], object], *, user: int | None = None) -> str:
    """What the call raises in a forked process, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = "nothing was raised"
        try:
            if user is not None and os.getuid() == 0:
                os.setuid(user)
            call()
        except BaseException as error:  # noqa: BLE001 - it is handed to the parent
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def test_no_permission(open_folder: Path) -> None:
    store = open_store(str(open_folder / "runs"))
    (open_folder / "runs").mkdir()
    (open_folder / "runs" / "secret").write_bytes(b"x")
    (open_folder / "runs" / "secret").chmod(0)
    (open_folder / "runs").chmod(0o555)
    said = in_process(lambda: store.put("a/b", b""), user=65534)
    assert said.startswith("AccessDeniedError: can't write") and str(open_folder) in said
    assert "no permission; give this user access to the folder or choose another storage.uri" in said
    assert in_process(lambda: store.get("secret"), user=65534).startswith("AccessDeniedError: can't read")
    (open_folder / "runs").chmod(0)
    for call in (store.list_folders, lambda: store.exists("a"), lambda: store.get("a")):
        assert in_process(call, user=65534).startswith("AccessDeniedError: can't")
    (open_folder / "runs").chmod(0o755)


FULL_DISK = """
import sys
from trainer_app.storage import open_store
store = open_store(sys.argv[1])
store.put("kept", b"old")
for call in (lambda: store.put("kept", bytes(1 << 20)), lambda: store.put_file("kept", sys.argv[2])):
    try:
        call()
        print("nothing was raised")
    except Exception as error:
        print(type(error).__name__, error)
print(store.get("kept"), [entry.key for entry in store.list()])
"""


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, big = tmp_path / "disk", tmp_path / "big"
    disk.mkdir()
    big.write_bytes(bytes(1 << 20))
    mount = f"mount -t tmpfs -o size=64k none {disk}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode == 0:
        script = ["sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", FULL_DISK, str(disk), str(big)]
        said = subprocess.run(["unshare", "-rm", *script], capture_output=True, text=True, check=True).stdout
        lines = said.splitlines()
    else:  # no user namespaces here: the error is thrown in
        store = open_store(str(disk))
        store.put("kept", b"old")

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError) as caught:
                store.put("kept", b"new")
        lines = [f"{type(caught.value).__name__} {caught.value}"] * 2 + [f"{store.get('kept')!r} {keys(store)}"]
    assert len(lines) == 3, lines
    for line in lines[:2]:
        expected = (
            f"StorageUnavailableError can't write {disk}/kept: the disk is full or a quota is reached; free space"
        )
        assert line.startswith(expected)
    assert lines[2] == "b'old' ['kept']"


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://bucket/a", "s3://bucket/a"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("s3://bucket/a%20b/%C3%BC%25", "s3://bucket/a%20b/%C3%BC%25"),
        ("s3://bucket/a b", "s3://bucket/a%20b"),
        ("s3://b.k_t-1/x?region=eu-west-1", "s3://b.k_t-1/x?region=eu-west-1"),
        (
            "s3://bucket/x?endpoint_override=http://127.0.0.1:9000/&region=r",
            "s3://bucket/x?endpoint_override=http://127.0.0.1:9000&region=r",
        ),
        ("s3://bucket?endpoint_override=h:9000&scheme=http", "s3://bucket?endpoint_override=http://h:9000"),
        ("s3://bucket?endpoint_override=h", "s3://bucket?endpoint_override=https://h"),
        ("s3://bucket?endpoint_override=http%3A%2F%2Fh%3A1", "s3://bucket?endpoint_override=http://h:1"),
        ("s3://bucket?force_virtual_addressing=true", "s3://bucket?force_virtual_addressing=true"),
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a/../b", "/b"),
        ("/a//b/", "/a/b"),
        ("/a/b?c", "/a/b?c"),
    ],
)
def test_uris(uri: str, opened: str) -> None:
    assert open_store(uri).uri == opened
    assert open_store(open_store(uri).uri) == open_store(uri)


def test_folders_are_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store("runs")
    assert store.uri == open_store("./x/../runs").uri == open_store("~/runs").uri == str(tmp_path / "runs")
    monkeypatch.chdir("/")
    store.put("a", b"x")
    assert (tmp_path / "runs" / "a").exists()


def test_endpoint_argument() -> None:
    assert open_store("s3://bucket/x", endpoint="http://h:1/").uri == "s3://bucket/x?endpoint_override=http://h:1"
    with pytest.raises(InputError, match="s3://bucket/prefix only"):
        open_store("/folder", endpoint="http://h:1")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gs://bucket/x", "unknown kind 'gs'; allowed: a folder, file:///folder, s3://bucket/prefix"),
        ("http://host/x", "unknown kind 'http'"),
        ("", "the URI is empty"),
        ("file://host/x", "three slashes"),
        ("file:relative", None),
        ("s3://", "no bucket's name"),
        ("s3:///x", "no bucket's name"),
        ("s3://ab", "'ab' is not a bucket's name"),
        ("s3://bucket/../x", "prefix '../x' can't be used"),
        ("s3://bucket/a//b", "prefix 'a//b' can't be used"),
        ("s3://bucket/x?regoin=a", "unknown option 'regoin'; allowed: endpoint_override, region"),
        ("s3://bucket/x?endpoint_override=ftp://h", "is not http://host:port"),
        ("s3://bucket/x?endpoint_override=http://h:port", "is not http://host:port"),
        (f"s3://AKIAKEY:{SECRET}@bucket/x", "AWS_ACCESS_KEY_ID"),
        (f"s3://AKIAKEY:{SECRET}/x+y@bucket/x", "AWS_ACCESS_KEY_ID"),
        (f"s3://AKIAKEY:{SECRET}", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/x?access_key=a&secret_key={SECRET}", "from a Secret"),
        (f"s3://bucket/x?AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/x?session_token={SECRET}", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/x?endpoint_override=http://user:{SECRET}@host", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/x?regoin={SECRET}", "unknown option"),
        (f"gs://user:{SECRET}@bucket/x", "unknown kind"),
    ],
)
def test_refused_uris(uri: str, said: str | None) -> None:
    if said is None:  # no scheme: a folder of that name
        assert open_store(uri).uri.endswith("/" + uri)
        return
    with pytest.raises(InputError) as caught:
        open_store(uri)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("uri", "storage", "run"),
    [
        ("s3://b/runs/mnist-1", "s3://b/runs", "mnist-1"),
        ("s3://b/mnist-1/", "s3://b", "mnist-1"),
        ("s3://b/r/m?region=x&endpoint_override=http://h:1", "s3://b/r?region=x&endpoint_override=http://h:1", "m"),
        ("file:///a/m", "file:///a", "m"),
        ("/a/b/m/", "/a/b", "m"),
        ("/m", "/", "m"),
    ],
)
def test_split_uri(uri: str, storage: str, run: str) -> None:
    assert split_uri(uri) == (storage, run)


def test_split_uri_needs_a_run() -> None:
    with pytest.raises(InputError, match="no run's name"):
        split_uri("s3://bucket")


def test_boto3_is_imported_for_s3_alone() -> None:
    code = (
        "import sys; from trainer_app.storage import open_store; open_store('x'); open_store('s3://bucket/x');"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "trainer_app.storage.s3" in loaded
    assert not {"boto3", "botocore", "torch", "ray"} & set(loaded)


def test_a_link_that_leads_nowhere_hides_nothing_beside_it(tmp_path: Path) -> None:
    store = FolderStore(str(tmp_path))
    store.put("run/a", b"1")
    for name in ("loop", "gone"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "run" / (name if name == "loop" else "nothing"))
        with pytest.raises(NotFoundError):
            store.get(f"run/{name}")
        with pytest.raises(StorageError, match="is a link that leads nowhere; remove it") as caught:
            store.put(f"run/{name}", b"2", create=True)
        assert not isinstance(caught.value, AlreadyExistsError)
    (tmp_path / "again").symlink_to(tmp_path / "again")
    assert [entry.key for entry in store.list()] == ["run/a"] and store.list_folders() == ["run"]


def test_a_folder_in_an_objects_place_is_no_object_that_exists(tmp_path: Path) -> None:
    (tmp_path / "lease.json").mkdir()
    with pytest.raises(StorageError, match="is a folder where an object should be") as caught:
        FolderStore(str(tmp_path)).put("lease.json", b"", create=True)
    assert not isinstance(caught.value, AlreadyExistsError)


@pytest.mark.parametrize("name", ["a\\b", "\x1b[31m", "x" * 240, "line\nbreak"])
def test_a_name_that_no_store_writes_hides_nothing_beside_it(tmp_path: Path, name: str) -> None:
    for folder in (name, "good", f"good/{name}"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").touch()
    (tmp_path / "good" / "a").mkdir()
    (tmp_path / "good" / "a" / name).touch()
    store = open_store(str(tmp_path))
    assert store.list_folders() == ["good"]
    assert [entry.key for entry in store.list()] == ["good/run.json"]
    assert [run.name for run in list_runs(str(tmp_path))] == ["good"]
    store.delete_prefix("good")
    assert not (tmp_path / "good").exists()
