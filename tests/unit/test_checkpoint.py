"""Commits: written payload first, read only if they verify."""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer_app.checkpoint import (
    PAYLOAD,
    Commit,
    Manifest,
    download_commit,
    download_newest,
    list_commits,
    write_commit,
)
from trainer_app.checkpoint.commit import name_commit, read_commit
from trainer_app.errors import AlreadyExistsError, CheckpointRejectedError, NotFoundError, StorageError
from trainer_app.records.manifest import MANIFEST
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit

MUTATIONS = 240
RUNS_0_1 = Path(__file__).parents[1] / "data" / "runs_0_1"


def payload_of(epoch: int) -> bytes:
    return random.Random(epoch).randbytes(4096)


def commit(store: Store, tmp: Path, epoch: int, *, attempt: int = 1, **fields: Any) -> Commit:
    """A commit whose payload is made of its epoch."""
    file = tmp / "payload"
    file.write_bytes(payload_of(epoch))
    about = {"step": epoch * 10, "world_size": 2, "time": 1.7e9, "metrics": {"val/acc": 0.5 + epoch / 100}}
    return write_commit(store, file, Manifest.model_validate({"epochs": epoch, "attempt": attempt, **about, **fields}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "checkpoints"))


@pytest.fixture
def three(store: Store, tmp_path: Path) -> list[Path]:
    """The folders of three commits, oldest first."""
    return [Path(store.uri, commit(store, tmp_path, epoch).name) for epoch in (1, 2, 3)]


@dataclass
class Noted:
    """A store that notes what is written, and fails where it is told to."""

    inner: Store
    fail: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return self.inner.uri

    def child(self, prefix: str) -> Noted:
        return Noted(self.inner.child(prefix), self.fail, self.log)

    def put_file(self, key: str, path: Path) -> None:
        self._note(key)
        self.inner.put_file(key, path)

    def put(self, key: str, data: bytes, *, create: bool = False) -> None:
        self._note(key)
        self.inner.put(key, data, create=create)

    def _note(self, key: str) -> None:
        if key == self.fail:
            raise StorageError(f"no {key} today")
        self.log.append(key)


def test_the_payload_is_written_before_the_manifest(store: Store, tmp_path: Path) -> None:
    noted: Any = Noted(store)
    commit(noted, tmp_path, 1)
    assert noted.log == [PAYLOAD, MANIFEST]


@pytest.mark.parametrize("fail", [PAYLOAD, MANIFEST])
def test_a_store_that_fails_in_between_leaves_no_commit(store: Store, tmp_path: Path, fail: str) -> None:
    first = commit(store, tmp_path, 1)
    failing: Any = Noted(store, fail)
    with pytest.raises(StorageError, match=f"no {fail} today"):
        commit(failing, tmp_path, 2)
    assert [c.name for c in list_commits(store)] == [first.name]
    found = download_newest(store, tmp_path / "to")
    assert found and found[0].name == first.name
    with pytest.raises(NotFoundError):
        read_commit(store, name_commit(2, 20, 1))


def test_what_was_written_is_read_back(store: Store, tmp_path: Path) -> None:
    metrics = {"val/acc": 0.25, "bad": math.nan, "worse": -math.inf}
    written = commit(store, tmp_path, 3, metrics=metrics, versions={"torch": "2"})
    (found,) = list_commits(store)
    assert found.name == written.name == "a0001-e000003-s000000030"
    assert found.uri == written.uri == f"{store.uri}/{found.name}"
    read_back = found.manifest.metrics
    assert math.isnan(read_back.pop("bad")) and read_back == {"val/acc": 0.25, "worse": -math.inf}
    assert (found.manifest.epochs, found.manifest.step, found.manifest.world_size) == (3, 30, 2)
    assert found.manifest.versions == {"torch": "2"}
    assert found.manifest.objects[PAYLOAD].size == 4096
    assert download_commit(found, tmp_path / "to").read_bytes() == payload_of(3)


def test_the_newest_is_taken_by_epoch_step_and_attempt(store: Store, tmp_path: Path) -> None:
    assert download_newest(store, tmp_path / "to") is None
    for epoch, attempt in [(9, 2), (10, 1), (2, 1), (10, 2)]:
        commit(store, tmp_path, epoch, attempt=attempt)
    names = [c.name for c in list_commits(store)]
    assert names == sorted(names) and len(names) == 4
    found = download_newest(store, tmp_path / "to")
    assert found is not None
    assert (found[0].manifest.epochs, found[0].manifest.attempt) == (10, 2)
    assert found[1].parent == tmp_path / "to" and found[1].read_bytes() == payload_of(10)


def test_a_manifest_counts_epochs(store: Store, tmp_path: Path) -> None:
    """`epoch` is an index wherever it is written, `epochs` a count."""
    fields = json.loads(Path(commit(store, tmp_path, 3).uri, MANIFEST).read_text())
    assert fields["epochs"] == 3 and "epoch" not in fields


@pytest.mark.parametrize("run", ["before-train", "before-stop", "before-tune/trials/t00000"])
def test_manifests_of_version_0_1_verify(run: str, tmp_path: Path) -> None:
    """There the count is named `epoch`, and their digest covers it under that name."""
    shutil.copytree(RUNS_0_1 / run, tmp_path / "run")
    store = open_store(str(tmp_path / "run" / "checkpoints"))
    found = list_commits(store, reject=lambda name, why: pytest.fail(why))
    assert found and all(f"-e{c.manifest.epochs:06d}-" in c.name for c in found)
    newest = download_newest(store, tmp_path / "to")
    assert newest and newest[0].name == found[-1].name
    change(Path(found[-1].uri, MANIFEST), lambda fields: fields.update(epoch=9))
    with pytest.raises(CheckpointRejectedError, match="its digest or its name differs"):
        read_commit(store, found[-1].name)


def flip(path: Path, *, bit: int = 12345) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    """The manifest with a change that still parses."""
    found = json.loads(path.read_text())
    how(found)
    path.write_text(json.dumps(found))


def other_hash(found: dict[str, Any]) -> None:
    """One bit of one digit: 0 and 1 differ in the lowest, and so on."""
    said = found["objects"][PAYLOAD]["sha256"]
    digit = next(i for i, c in enumerate(said) if c in "02468")
    found["objects"][PAYLOAD]["sha256"] = said[:digit] + chr(ord(said[digit]) ^ 1) + said[digit + 1 :]


def put(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, count: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-count])


def edit(change_it: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda folder: change(folder / MANIFEST, change_it)


def into_folder(folder: Path) -> None:
    (folder / PAYLOAD).unlink()
    (folder / PAYLOAD / "x").mkdir(parents=True)


# what is done to the newest commit's folder, and what is said of it
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "payload truncated": (cut(PAYLOAD, 1), "4095 bytes.*expected 4096 bytes"),
    "payload bit flipped": (lambda folder: flip(folder / PAYLOAD), "does not match its manifest"),
    "payload longer": (put(PAYLOAD, payload_of(3) + b"\0"), "4097 bytes"),
    "payload emptied": (put(PAYLOAD, b""), "0 bytes"),
    "payload removed": (lambda folder: (folder / PAYLOAD).unlink(), "is missing"),
    "payload a folder": (into_folder, "is missing"),
    "manifest emptied": (put(MANIFEST, b""), "manifest.json is damaged"),
    "manifest truncated": (cut(MANIFEST, 9), "manifest.json is damaged"),
    "manifest not text": (put(MANIFEST, b"\xff\xfe{}"), "manifest.json is damaged"),
    "manifest zeroes": (put(MANIFEST, bytes(300)), "manifest.json is damaged"),
    "manifest null": (put(MANIFEST, b"null"), "manifest.json is damaged"),
    "manifest a list": (put(MANIFEST, b"[1]"), "manifest.json is damaged"),
    "manifest another hash": (edit(other_hash), "does not match its manifest|damaged"),
    "manifest another size": (edit(lambda m: m["objects"][PAYLOAD].update(size=4097)), "expected 4097 bytes|damaged"),
    "manifest no objects": (edit(lambda m: m.update(objects={})), "lists no checkpoint.ckpt|damaged"),
    "manifest no epochs": (edit(lambda m: m.pop("epochs")), "manifest.json is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_the_next_older_one_taken(
    store: Store, tmp_path: Path, three: list[Path], name: str
) -> None:
    damage, reason = DAMAGE[name]
    damage(three[2])
    rejected: list[tuple[str, str]] = []
    found = download_newest(store, tmp_path / "to", reject=lambda *said: rejected.append(said))
    assert found is not None and found[0].name == three[1].name
    assert found[1].read_bytes() == payload_of(2)
    ((which, why),) = rejected
    assert which == three[2].name and which in why and "\n" not in why
    assert re.search(reason, why), why


def test_swapped_payloads_of_two_commits(store: Store, tmp_path: Path, three: list[Path]) -> None:
    a, b = three[1] / PAYLOAD, three[2] / PAYLOAD
    a.write_bytes(payload_of(3))
    b.write_bytes(payload_of(2))
    rejected: list[str] = []
    found = download_newest(store, tmp_path / "to", reject=lambda name, why: rejected.append(name))
    assert found is not None and found[0].name == three[0].name
    assert rejected == [three[2].name, three[1].name]
    assert found[1].read_bytes() == payload_of(1)


def test_a_manifest_of_another_commit_is_refused(store: Store, tmp_path: Path, three: list[Path]) -> None:
    """A folder that was copied or renamed verifies by its payload, yet it is not what its name says."""
    shutil.copytree(three[0], Path(store.uri, name_commit(9, 90, 1)))
    rejected: list[str] = []
    found = download_newest(store, tmp_path / "to", reject=lambda name, why: rejected.append(name))
    assert found is not None and found[0].name == three[2].name
    assert rejected == [name_commit(9, 90, 1)]


def test_all_damaged_is_none(store: Store, tmp_path: Path, three: list[Path]) -> None:
    for folder in three:
        flip(folder / PAYLOAD)
    rejected: list[str] = []
    assert download_newest(store, tmp_path / "to", reject=lambda name, why: rejected.append(name)) is None
    assert rejected == [folder.name for folder in reversed(three)]
    assert download_newest(store, tmp_path / "to") is None
    assert not (tmp_path / "to" / PAYLOAD).exists()  # nothing lies there that someone could load by mistake


def test_a_removed_manifest_takes_the_commit_back(store: Store, tmp_path: Path, three: list[Path]) -> None:
    """Retention deletes the manifest first, a writer puts it last: without one it is no commit, and no damage."""
    (three[2] / MANIFEST).unlink()
    rejected: list[str] = []
    found = download_newest(store, tmp_path / "to", reject=lambda name, why: rejected.append(name))
    assert found is not None and found[0].name == three[1].name and rejected == []
    assert [c.name for c in list_commits(store)] == [three[0].name, three[1].name]


def test_commits_names_what_it_leaves_out(store: Store, three: list[Path]) -> None:
    (three[1] / MANIFEST).write_bytes(b"{")
    rejected: list[tuple[str, str]] = []
    found = list_commits(store, reject=lambda *said: rejected.append(said))
    assert [c.name for c in found] == [three[0].name, three[2].name]
    assert rejected[0][0] == three[1].name and "damaged" in rejected[0][1]
    assert len(list_commits(store)) == 2


def test_strays_are_ignored(store: Store, tmp_path: Path, three: list[Path]) -> None:
    root = Path(store.uri)
    (root / "notes.txt").write_text("mine")
    (root / ".tmp-123").write_text("a write in progress")
    (root / "zz-empty").mkdir()
    (root / "zz-other").mkdir()
    (root / "zz-other" / "file").write_text("x")
    (root / "zz-folder" / MANIFEST).mkdir(parents=True)  # a folder by that name
    (root / "zz-folder" / MANIFEST / "x").write_text("x")
    (three[2] / "extra.bin").write_bytes(b"more than the manifest says")
    (three[2] / ".tmp-abc").write_bytes(b"left behind")
    found = download_newest(store, tmp_path / "to", reject=lambda name, why: pytest.fail(why))
    assert found is not None and found[0].name == three[2].name
    assert len(list_commits(store)) == 3


def mutate(rng: random.Random, folder: Path) -> str:
    """One random change to one of the commit's two objects; what it was."""
    path = folder / rng.choice([PAYLOAD, MANIFEST])
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    kind = rng.choice(["bit", "byte", "cut", "insert", "drop", "zeroes", "swap"])
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        data[at] = (data[at] + rng.randrange(1, 256)) % 256
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data.insert(at, rng.randrange(256))
    elif kind == "drop":
        del data[at]
    elif kind == "zeroes":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    else:
        other = rng.randrange(len(data))
        data[at], data[other] = data[other], data[at]
    path.write_bytes(data)
    return f"{kind} in {path.name} at {at}"


def test_no_random_mutation_is_loaded_in_silence(store: Store, tmp_path: Path, three: list[Path]) -> None:
    """Whatever is loaded is, bit for bit, what was written under that name."""
    originals = {name: (three[2] / name).read_bytes() for name in (PAYLOAD, MANIFEST)}
    rng = random.Random(20240607)
    silent, noticed = [], 0
    for _ in range(MUTATIONS):
        what = mutate(rng, three[2])
        rejected: list[str] = []
        found = download_newest(store, tmp_path / "to", reject=lambda name, why, said=rejected: said.append(why))  # type: ignore[misc]
        assert found is not None
        if found[1].read_bytes() != payload_of(found[0].manifest.epochs):
            silent.append(what)
        noticed += found[0].name == three[1].name and len(rejected) == 1
        for name, data in originals.items():
            (three[2] / name).write_bytes(data)
    assert silent == []
    assert noticed > 0.9 * MUTATIONS


@dataclass
class InMemory:
    """One object."""

    data: bytes
    uri: str = "memory"

    def child(self, prefix: str) -> InMemory:
        return self

    def get(self, key: str) -> bytes:
        return self.data


def test_no_flipped_bit_of_a_manifest_is_believed(store: Store, three: list[Path]) -> None:
    """Every single bit: a metric that reads 0.93 for 0.53 would decide what retention deletes.

    A flip in `objects` may pass here: `fetch` compares those with the payload.
    """
    original = (three[2] / MANIFEST).read_bytes()
    written = read_commit(store, three[2].name).manifest
    believed = []
    for bit in range(8 * len(original)):
        data = bytearray(original)
        data[bit // 8] ^= 1 << bit % 8
        in_memory: Any = InMemory(bytes(data))
        with contextlib.suppress(CheckpointRejectedError):
            found = read_commit(in_memory, three[2].name).manifest
            if found != written and found.objects == written.objects:
                believed.append(data[max(0, bit // 8 - 12) : bit // 8 + 3])
    assert believed == []


def test_fetch_refuses_by_name(store: Store, tmp_path: Path, three: list[Path]) -> None:
    found = read_commit(store, three[0].name)
    flip(three[0] / PAYLOAD)
    with pytest.raises(CheckpointRejectedError, match=rf"{three[0].name}/{PAYLOAD} does not match its manifest"):
        download_commit(found, tmp_path / "to")
    assert not (tmp_path / "to" / PAYLOAD).exists()


def test_a_commit_is_never_written_over_another(store: Store, tmp_path: Path) -> None:
    """One worker's payload with the other's manifest was no commit."""
    payload = tmp_path / "payload"
    for content in (b"first", b"second"):
        payload.write_bytes(content)
        manifest = Manifest(epochs=1, step=1, attempt=1, world_size=1, time=0.0, versions={"worker": content.decode()})
        with pytest.raises(AlreadyExistsError) if content == b"second" else contextlib.nullcontext():
            write_commit(store, payload, manifest)
    (commit,) = list_commits(store)
    assert commit.manifest.versions == {"worker": "first"}
