"""What holds for every store. A subclass in a test module gives the fixture `store`, an empty one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, ObjectChangedError
from trainer_app.storage import Store, open_store

KEYS = (
    "plain",
    "a/b/c.json",
    "with space/and more ",
    "ünïcödé/日本語/🦉",
    "lr=0.1,x+y/100%/%41",
    "a?b&c#d/'quoted'\"(x)*!;:@",
    "val/acc",
    ".hidden/.file",
)
BAD_KEYS = (
    "",
    "/a",
    "a//b",
    "a/",
    "../a",
    "a/../b",
    "./a",
    "a/.",
    "a\nb",
    "a\x00",
    "a\\b",
    ".tmp-1",
    "a/.tmp-1/b",
    "x" * 230,
)
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["boto3", "trainer_app.storage"])  # 0.3 s for each writer otherwise


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def killed_writer(write: Callable[[], object], seconds: float) -> None:
    """A process that writes for ever, killed that long after its first write.

    From a server of clean processes: a fork of this one, which has the threads of Ray and boto3, may hang for good.
    """
    reader, writer = CLEAN.Pipe(duplex=False)
    process = CLEAN.Process(target=_write_for_ever, args=(write, dict(os.environ), writer), daemon=True)
    process.start()
    writer.close()
    assert reader.poll(60), "the writer wrote nothing in 60 s"
    said = [reader.recv_bytes()]
    time.sleep(seconds)
    process.kill()
    process.join()
    while reader.poll():
        try:
            said.append(reader.recv_bytes())
        except EOFError:
            break
    assert set(said) == {b"."} and process.exitcode == -signal.SIGKILL, said[-1].decode()


def _write_for_ever(write: Callable[[], object], env: dict[str, str], writer: Connection) -> None:
    os.environ.clear()
    os.environ.update(env)
    try:
        while True:
            write()
            writer.send_bytes(b".")
    except BaseException:
        writer.send_bytes(traceback.format_exc().encode())
        raise


def put_signed(store: Store, key: str, size: int) -> None:
    store.put(key, signed(size))


def put_three(store: Store, source: Path) -> None:
    """One object again and again, a new one, and a file."""
    put_signed(store, "x/same", 300_000)
    store.put(f"x/{os.urandom(4).hex()}", signed(300_000), create=True)
    store.put_file("x/file", source)


def signed(size: int) -> bytes:
    """Random bytes that begin with their own SHA-256."""
    body = os.urandom(size)
    return sha256(body).digest() + body


def is_whole(data: bytes) -> bool:
    return len(data) > 32 and sha256(data[32:]).digest() == data[:32]


class StoreContract:
    races = 20

    def test_puts_and_gets(self, store: Store) -> None:
        store.put("a/b", b"one")
        store.put("a/b", b"two")
        store.put("empty", b"")
        assert store.get("a/b") == b"two"
        assert store.get("empty") == b""
        assert [store.get("a/b", start=start) for start in (0, 1, 3, 4)] == [b"two", b"wo", b"", b""]
        assert store.get("empty", start=1) == b""

    @pytest.mark.parametrize("key", KEYS)
    def test_keys(self, store: Store, key: str) -> None:
        store.put(key, key.encode())
        assert store.get(key) == key.encode()
        assert store.exists(key)
        assert keys(store) == [key]
        assert store.child("x").uri.startswith(store.uri.partition("?")[0])
        store.delete(key)
        assert not store.exists(key)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys(self, store: Store, key: str) -> None:
        for call in (
            store.get,
            store.exists,
            store.delete,
            lambda k: store.put(k, b""),
            lambda k: store.put_file(k, __file__),
        ):
            with pytest.raises(InputError, match="storage key"):
                call(key)

    def test_bad_prefixes(self, store: Store) -> None:
        for call in (store.child, store.list, store.list_folders, store.delete_prefix):
            for prefix in ("../other", "/root", "a//b", ".."):
                with pytest.raises(InputError, match="storage prefix"):
                    call(prefix)

    def test_missing(self, store: Store, tmp_path: Path) -> None:
        store.put("folder/x", b"")
        for call in (store.get, lambda key: store.get_file(key, tmp_path / "f")):
            for key in ("nothing", "folder", "folder/y", "folder/x/z"):
                with pytest.raises(NotFoundError, match=key) as caught:
                    call(key)
                assert "\n" not in str(caught.value)
        assert not any(store.exists(key) for key in ("nothing", "folder", "folder/x/z"))
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".tmp-", "f"))]

    def test_lists_in_order_of_keys(self, store: Store) -> None:
        names = ["a/b", "a-b/c", "a.b", "a/b.c", "ab/x", "a/d/e/f", "B"]
        for name in names:
            store.put(name, name.encode())
        before = time.time()
        assert keys(store) == sorted(names)
        assert keys(store, "a") == keys(store, "a/") == ["b", "b.c", "d/e/f"]
        assert keys(store, "nothing") == []
        entry = next(iter(store.list("a/d")))
        assert (entry.key, entry.size) == ("e/f", 7)
        assert abs(entry.modified - before) < 60

    def test_names(self, store: Store) -> None:
        for key in ("run-2/run.json", "run-1/trials/t1/trial.json", "run-1/trials/t0/trial.json", "file"):
            store.put(key, b"")
        assert store.list_folders() == ["run-1", "run-2"]
        assert store.list_folders("run-1/trials") == ["t0", "t1"]
        assert store.list_folders("run-2") == store.list_folders("nothing") == []

    def test_child(self, store: Store) -> None:
        child = store.child("a b/ü").child("c%20")
        child.put("k", b"x")
        assert store.get("a b/ü/c%20/k") == b"x"
        assert open_store(child.uri).get("k") == b"x"
        assert child.child("").uri == child.uri

    def test_deletes(self, store: Store) -> None:
        for key in ("a/1", "a/b/2", "ab/3"):
            store.put(key, b"")
        store.delete("nothing")
        store.delete("a/nothing/x")
        store.delete("a/1")
        store.delete("a/1")
        assert keys(store) == ["a/b/2", "ab/3"]
        store.delete_prefix("a")
        store.delete_prefix("a")
        assert keys(store) == ["ab/3"]
        store.child("ab").delete_prefix("")
        assert keys(store) == []

    def test_create_keeps_what_is_there(self, store: Store) -> None:
        store.put("a/b", b"first", create=True)
        with pytest.raises(AlreadyExistsError, match=r"a/b.* exists already") as caught:
            store.put("a/b", b"second", create=True)
        assert caught.value.exit_code == 2
        assert store.get("a/b") == b"first"

    def test_one_of_several_creators_wins(self, store: Store) -> None:
        def create(number: int, key: str) -> bool:
            try:
                store.put(key, b"%d" % number, create=True)
            except AlreadyExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            for race in range(self.races):
                key = f"race/{race}"
                won = list(pool.map(create, range(8), [key] * 8))
                assert won.count(True) == 1
                assert store.get(key) == b"%d" % won.index(True)
        assert len(keys(store)) == self.races

    def test_a_condition_on_what_is_there(self, store: Store) -> None:
        assert store.tag("a/b") is store.tag("a") is None
        store.put("a/b", b"one")
        first = store.tag("a/b")
        assert first is not None and store.tag("a/b") == first
        store.put("a/b", b"two", if_match=first)
        for data, tag in ((b"three", first), (b"three", "no tag")):
            with pytest.raises(ObjectChangedError, match=r"a/b.* was changed by another writer"):
                store.put("a/b", data, if_match=tag)
        with pytest.raises(ObjectChangedError):
            store.put("a/new", b"three", if_match=first)
        assert store.get("a/b") == b"two" and keys(store) == ["a/b"]

    def test_one_of_several_that_replace_an_object_wins(self, store: Store) -> None:
        def write(number: int, race: int, tag: str) -> bool:
            try:
                store.put("race", b"%d %d" % (race, number), if_match=tag)  # S3's tag is that of the bytes alone
            except ObjectChangedError:
                return False
            return True

        store.put("race", b"first")
        with ThreadPoolExecutor(8) as pool:
            for race in range(self.races):
                won = list(pool.map(write, range(8), [race] * 8, [store.tag("race") or ""] * 8))
                assert won.count(True) == 1
                assert store.get("race") == b"%d %d" % (race, won.index(True))

    def test_files(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(signed(3_000_000))
        store.put_file("a/big", source)
        assert is_whole(store.get("a/big"))
        target = tmp_path / "new" / "folder" / "target"
        store.get_file("a/big", str(target))
        store.get_file("a/big", target)
        assert target.read_bytes() == source.read_bytes()
        assert [p.name for p in target.parent.iterdir()] == ["target"]
        with pytest.raises(NotFoundError, match="no-such-file"):
            store.put_file("a/other", tmp_path / "no-such-file")
        assert keys(store) == ["a/big"]

    def test_is_pickled_without_credentials(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.put("k", b"x")
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "not-in-here")
        pickled = pickle.dumps(store.child("a"))
        assert secret.encode() not in pickled and secret not in repr(store)
        again = pickle.loads(pickled)  # noqa: S301 - our own bytes
        again.put("l", b"y")
        assert store.get("a/l") == b"y"

    def test_killed_writers_leave_no_half_object(self, store: Store, tmp_path: Path) -> None:
        """20 times SIGKILL: whatever is listed is whole, the old object or the new one."""
        store.put("warm", b"")
        source = tmp_path / "source"
        source.write_bytes(signed(1_000_000))
        for round_ in range(20):
            killed_writer(partial(put_three, store, source), 0.007 * round_)
            found = keys(store, "x")
            assert all(is_whole(store.get(f"x/{key}")) for key in found)
            for key in found[:-3]:
                store.delete(f"x/{key}")
        assert found, "no writer ever finished an object: the test shows nothing"
        assert all(".tmp-" not in key for key in found)
        assert store.list_folders() == ["x"]
