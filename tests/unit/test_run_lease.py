"""The lease of a run, in a real folder, with processes that really end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from trainer_app.cli import list as list_verb
from trainer_app.cli.list import list_runs
from trainer_app.errors import InputError, LeaseHeldError, LeaseLostError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run import documents, lease, lease_file
from trainer_app.run.identity import Process, current_submission, run_from_cluster, this_process
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    found = open_store(str(tmp_path)).child("toy-1")
    yield found
    lease.release(found)


def elsewhere(store: Store, *, expires: float, **more: Any) -> dict[str, Any]:
    """Another machine's driver has the lease."""
    other = replace(this_process(), host="head-2", machine="another boot", pid=7)
    document = {"holder": other.name, "expires": expires, **asdict(other), "spent": 40.0, "attempt": 3, **more}
    documents.write(store, lease_file.KEY, document)
    return document


def test_a_held_run_is_refused_in_one_line_with_holder_and_end(store: Store) -> None:
    until = time.time() + 20
    elsewhere(store, expires=until)
    words = rf"^run toy-1 is held by the driver head-2:7, until {time.strftime('%H:%M:%S', time.gmtime(until))} UTC"
    for refuse in (lambda: lease.acquire(store, None), lambda: lease_file.check_not_held(store)):
        with pytest.raises(LeaseHeldError, match=words) as refused:
            refuse()
        assert refused.value.exit_code == 2 and "\n" not in str(refused.value)


def test_a_submission_waits_until_it_expires_and_counts_what_was_spent(store: Store) -> None:
    elsewhere(store, expires=time.time() + 30)
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        elsewhere(store, expires=time.time() + 0.3)  # not before: it may have expired once it is written

    began = time.monotonic()
    held = lease.acquire(store, "s", wait=True, say=say)
    assert 0.2 < time.monotonic() - began < 5
    assert len(said) == 1 and "waiting" in said[0]
    assert 40.0 <= held.spent < 45
    assert documents.read(store, lease_file.KEY) == {
        **(documents.read(store, lease_file.KEY) or {}),
        "submission": "s",
        "holder": this_process().name,
        "attempt": 4,
    }


DAMAGED = {
    "empty": b"",
    "cut": b'{"holder": "head-2:7", "expires": 17',
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "a text": b'"x"',
    "binary": b"\xff\x00\x12",
    "no numbers": b'{"holder": "h", "expires": "soon", "pid": "x"}',
    "a null pid": b'{"holder": "h", "expires": [1], "pid": {}}',
    "for ever": b'{"holder": "head-2:7", "host": "head-2", "expires": Infinity}',
    "not a number": b'{"holder": "head-2:7", "host": "head-2", "expires": NaN, "spent": NaN}',
    "no seconds": b'{"holder": "head-2:7", "host": "head-2", "expires": 0, "spent": "long", "attempt": "first"}',
    "deep": b"[" * 100_000,
    "a year of 32 digits": b'{"holder": "head-2:7", "host": "head-2", "expires": 1e32}',
    "spent for ever": b'{"holder": "head-2:7", "host": "head-2", "expires": 0, "spent": 1e300}',
    "spent less than nothing": b'{"holder": "head-2:7", "host": "head-2", "expires": 0, "spent": -9}',
    "a number of 300 digits": b'{"holder": "head-2:7", "host": "head-2", "attempt": 1' + b"0" * 300 + b"}",
    "a number below 0": b'{"holder": "head-2:7", "host": "head-2", "attempt": -3}',
    "a huge pid": json.dumps({**asdict(this_process()), "holder": "x", "expires": 1e10, "pid": 10**30}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_lease_is_free(damage: str, store: Store) -> None:
    store.put(lease_file.KEY, DAMAGED[damage])
    lease_file.check_not_held(store)
    lease_file.check_token(store, "another's")
    held = lease.acquire(store, "s")
    assert (documents.read(store, lease_file.KEY) or {})["host"] == this_process().host
    assert 0 <= held.spent < 60 and 10**9 < held._number < 10**11
    store.put(lease_file.KEY, DAMAGED[damage])
    held.renew()
    assert held.lost is None and (documents.read(store, lease_file.KEY) or {})["host"] == this_process().host
    store.put(lease_file.KEY, DAMAGED[damage])
    held.release()


def test_a_lease_that_is_never_renewed_is_free_whatever_its_holders_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_S", 0.3)
    elsewhere(store, expires=time.time() + 86_400)
    began = time.monotonic()
    lease.acquire(store, "s", wait=True, say=lambda text: None)
    assert 0.25 < time.monotonic() - began < 5


@pytest.mark.parametrize("renewed", [False, True])
def test_an_end_that_says_nothing_keeps_nobody_out(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, renewed: bool
) -> None:
    """A user who resumes by hand was refused until the year 2100; a holder whose clock is ahead is seen to renew."""
    monkeypatch.setattr(lease, "STALE_S", 0.3)
    elsewhere(store, expires=time.time() + 86_400)
    lease_file.check_not_held(store)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if renewed:
            elsewhere(store, expires=time.time() + 86_500)

    if renewed:
        with pytest.raises(LeaseHeldError, match="held by the driver head-2:7"):
            lease.acquire(store, None, say=say)
    else:
        lease.acquire(store, None, say=say)
    assert len(said) == 1


def test_a_holders_name_is_shown_on_one_line_without_escapes(store: Store) -> None:
    elsewhere(store, expires=time.time() + 20, holder="a\x1b[31m\nb")
    with pytest.raises(LeaseHeldError, match="held by the driver a b, until"):
        lease.acquire(store, None)
    with pytest.raises(LeaseLostError, match="the driver a b has taken over"):
        lease_file.check_token(store, "x 1 1")


def test_the_lease_after_one_that_is_gone_has_a_higher_number(store: Store) -> None:
    """It had number 1 again: the former holder took it back from the new one."""
    store.put("run.json", b"{}")
    elsewhere(store, expires=time.time() + 20)
    former = lease_file.token_of(documents.read(store, lease_file.KEY) or {})
    store.delete(lease_file.KEY)
    lease.acquire(store, "s")
    with pytest.raises(LeaseLostError):
        lease_file.check_token(store, former)


def test_the_wait_for_a_driver_that_lives_has_a_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "WAIT_S", 0.3)
    said: list[str] = []
    reads = 0

    def renewed(inner: Any = store.get) -> Any:
        def get(self: Any, key: str) -> bytes:
            nonlocal reads
            reads += 1
            elsewhere(store, expires=time.time() + 30 + reads)
            return bytes(inner(key))

        return get

    monkeypatch.setattr(type(store), "get", renewed())
    with pytest.raises(LeaseHeldError, match=r"held by the driver head-2:7.*; this driver has waited 0 s"):
        lease.acquire(store, "s", wait=True, say=said.append)
    assert len(said) == 1 and said[0].endswith("waiting for it to expire or to be released, up to 0 s")
    assert reads < 200  # it pauses


def test_a_lease_that_always_goes_to_another_is_not_asked_for_without_a_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False] * 4 + [True])
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease.Lease, "_take", lambda *_: next(answers))
    began = time.monotonic()
    lease.acquire(store, "s", wait=True)
    assert time.monotonic() - began >= 0.1


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    lease.acquire(store, None).release()
    found = documents.read(store, lease_file.KEY)
    assert found is not None and found["expires"] == 0
    lease_file.check_not_held(store)
    assert lease.acquire(store, None) is lease.acquire(store, None)


def test_a_dead_process_of_this_machine_does_not_hold_it(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = replace(this_process(), pid=child.pid, began=began(child.pid))
    documents.write(store, lease_file.KEY, {"holder": "x", "expires": time.time() + 30, **asdict(alive)})
    with pytest.raises(LeaseHeldError):
        lease.acquire(store, None)
    child.kill()
    deadline = time.monotonic() + 5
    while not alive.is_dead() and time.monotonic() < deadline:  # a zombie is dead too: nobody has waited for it yet
        time.sleep(0.01)
    lease.acquire(store, None)
    child.communicate()


def began(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_who_is_certainly_dead() -> None:
    me = this_process()
    assert not me.is_dead()
    assert replace(me, began=me.began + 1).is_dead()  # the number was given to another process since
    assert not replace(me, pid=2**22 + 1, machine="a container of the same name").is_dead()
    assert not Process("another-host", 2**22 + 1).is_dead()


def test_it_is_renewed_and_a_new_holder_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    held = lease.acquire(store, "s")
    first = documents.read(store, lease_file.KEY) or {}
    until(lambda: (documents.read(store, lease_file.KEY) or {})["expires"] > first["expires"])
    with held._lock:  # else a renewal that has read already writes over it
        theirs = elsewhere(store, expires=time.time() + 30)
    until(lambda: held.lost is not None)
    assert held.lost == "head-2:7"
    held.release()
    assert documents.read(store, lease_file.KEY) == theirs  # the other's lease stays


def until(look: Any) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_submission_of_a_cron_firing_is_its_rayjobs_name() -> None:
    fired = {"TRAINER_RUN_FROM_CLUSTER": "1", "RAY_CLUSTER_NAME": "nightly-x7k2p-abcde"}
    assert run_from_cluster(fired) == current_submission(fired) == "nightly-x7k2p"
    assert run_from_cluster({"RAY_CLUSTER_NAME": "nightly-x7k2p-abcde"}) is None and current_submission({}) is None
    assert current_submission({"TRAINER_SUBMISSION": "toy-1-abc", **fired}) == "toy-1-abc"
    for name in ("", "abcde", "-abcde", "nodash"):
        with pytest.raises(InputError, match="RAY_CLUSTER_NAME"):
            run_from_cluster({**fired, "RAY_CLUSTER_NAME": name})


def test_a_process_is_described_so_that_another_can_look_it_up() -> None:
    me = this_process()
    assert me.pid == os.getpid() and me.name == f"{me.host}:{me.pid}"
    assert Process(**asdict(me)) == me


def test_a_run_whose_process_is_gone_is_seen_at_once(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trainer list` said `running` for 10 minutes after a SIGKILL."""
    monkeypatch.setattr(list_verb, "reads_cluster", lambda *_: False)
    record = RunRecord(name="toy-1", task="train")
    RunFolder.create(open_store(store.uri.removesuffix("/toy-1")), record, "")

    def shown() -> str:
        list_runs(cast(typer.Context, None), location=store.uri.removesuffix("/toy-1"))
        return capsys.readouterr().out

    assert "process" not in shown()  # no lease
    script = "from trainer_app.run import lease; from trainer_app.storage import open_store; import os, sys\n"
    script += "lease.acquire(open_store(sys.argv[1]), None); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, store.uri], check=False)
    assert "running? (its process has ended)" in shown()
    elsewhere(store, expires=0.0)
    assert "process" not in shown()  # nobody here knows
    store.put(lease_file.KEY, b"[")
    assert "process" not in shown()
