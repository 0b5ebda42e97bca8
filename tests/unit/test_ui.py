"""The server of `trainer ui`, asked by HTTP: what it shows, to whom, and that it only reads."""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.run_samples import train_run, tune_run
from tests.ui_server import Server
from trainer_app.storage import Store, open_store
from trainer_app.ui.access import Access, is_local
from trainer_app.ui.index import RunIndex

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "runs"))
    train_run(store, created=1000.0, state="succeeded", tags=["a", "paper"])
    tune_run(store, created=2000.0, error="ValueError: <script>alert(1)</script>", state="failed")
    store.put("broken/run.json", b"{")
    store.put("other/file.txt", b"no run")
    return store


@pytest.fixture
def server(storage: Store) -> Iterator[Server]:
    with Server(storage, Access(host="127.0.0.1")) as server:
        yield server


def test_the_list(server: Server) -> None:
    page = server.json("/api/runs")
    assert [row["name"] for row in page["rows"]] == ["mnist-1", "fashion-1", "broken"]
    assert (page["matching"], page["read"], page["known"]) == (3, 3, 3)
    assert page["rows"][1]["best"] is None or page["rows"][1]["metric"] == "val/acc"
    assert page["rows"][2]["state"] == "damaged" and "run.json" in page["rows"][2]["error"]
    assert [row["name"] for row in server.json("/api/runs?text=SCRIPT")["rows"]] == ["mnist-1"]
    assert [row["name"] for row in server.json("/api/runs?state=succeeded")["rows"]] == ["fashion-1"]
    assert [row["name"] for row in server.json("/api/runs?tag=paper")["rows"]] == ["fashion-1"]
    assert page["tags"] == ["a", "paper"]
    assert [row["name"] for row in server.json("/api/runs?sort=-name&limit=2&offset=1")["rows"]] == [
        "fashion-1",
        "mnist-1",
    ]


@pytest.mark.parametrize(
    "query",
    [
        *("sort=nothing", "limit=x&offset=-1", "limit=999999999999", "sort=&text=%00", "tag=a", "sort=tags"),
        *(f"limit={'9' * 5000}", f"offset={'0' * 5000}"),
    ],
)
def test_any_query_of_the_list_is_answered(server: Server, query: str) -> None:
    assert server.json(f"/api/runs?{query}")["known"] == 3


def test_a_new_run_a_changed_one_and_one_that_is_gone(server: Server, storage: Store) -> None:
    folder = train_run(storage, "later-1", created=3000.0)
    storage.delete_prefix("broken")
    server.index.refresh()
    assert [row["name"] for row in server.json("/api/runs")["rows"]] == ["later-1", "mnist-1", "fashion-1"]
    folder.update(state="succeeded", best=0.5)
    server.index.refresh()
    first = server.json("/api/runs")["rows"][0]
    assert (first["state"], first["best"]) == ("succeeded", 0.5)


def test_the_document_is_sent_once(server: Server, storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_app.ui.documents.REST", 0.0)
    answer, data = server.ask("/api/report?run=mnist-1&run=fashion-1")
    assert [run["name"] for run in json.loads(data)["runs"]] == ["mnist-1", "fashion-1"]
    tag = answer.headers["ETag"]
    same, nothing = server.ask("/api/report?run=mnist-1&run=fashion-1", If_None_Match=tag)
    assert (same.status, nothing) == (304, b"")
    storage.put("mnist-1/lease.json", b"{}")
    assert server.ask("/api/report?run=mnist-1&run=fashion-1", If_None_Match=tag)[0].status == 304
    storage.put("mnist-1/trials/t00009/trial.json", b"{")
    changed, data = server.ask("/api/report?run=mnist-1&run=fashion-1", If_None_Match=tag)
    assert changed.status == 200 and changed.headers["ETag"] != tag


def test_the_page_of_a_run(server: Server) -> None:
    answer, data = server.ask("/report?run=mnist-1")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert b"<script>alert(1)" not in data
    policy = html.unescape(data.decode())
    assert "default-src 'none'" in policy and "; connect-src 'self'" in policy


@pytest.mark.parametrize(
    "path, code",
    [
        ("/report?run=nothing", 404),
        ("/report", 400),
        ("/report?run=../x", 400),
        ("/report?" + "&".join(f"run=r{n}" for n in range(21)), 400),
        ("/file/mnist-1/lease.json", 404),
        ("/file/mnist-1/launch/values.yaml", 404),
        ("/file/mnist-1/artifacts/../lease.json", 400),
        ("/file/mnist-1/artifacts/%2e%2e/lease.json", 400),
        ("/file/mnist-1/artifacts/none", 404),
        ("/file/..%2Fx/artifacts/a", 400),
        ("/static/server.py", 404),
        ("/static/..%2Fserver.py", 404),
        ("/nothing", 404),
    ],
)
def test_what_is_not_shown(server: Server, path: str, code: int) -> None:
    answer, data = server.ask(path)
    assert answer.status == code and b"Traceback" not in data and len(data) < 1000


def test_a_file_is_a_download_whatever_it_is(server: Server, storage: Store) -> None:
    storage.put("mnist-1/artifacts/t00001/plot ü.html", b"<script>alert(1)</script>")
    answer, data = server.ask("/file/mnist-1/artifacts/t00001/plot%20%C3%BC.html")
    assert data == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert (
        answer.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in answer.headers["Content-Security-Policy"]
    )


def test_a_log_is_on_the_page_without_secrets_and_whole_as_a_download(server: Server, storage: Store) -> None:
    storage.put("mnist-1/logs/driver/a0001.log", b"one\ntoken=abcdef123\x1b[2J\n")
    log = server.json("/api/report?run=mnist-1")["runs"][0]["log"]
    assert log["lines"][0] == "one" and "abcdef123" not in log["lines"][1] and "\x1b" not in log["lines"][1]
    assert server.ask(f"/file/mnist-1/{log['name']}")[1].startswith(b"one\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(server: Server, method: str) -> None:
    assert server.ask("/api/runs", method=method)[0].status == 405


def test_headers_of_every_answer(server: Server) -> None:
    for path in ("/", "/api/runs", "/nothing", "/static/runs.js"):
        headers = server.ask(path)[0].headers
        assert headers["X-Frame-Options"] == "DENY" and headers["Referrer-Policy"] == "no-referrer", path
    assert "script-src 'self'" in server.ask("/")[0].headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "host, code",
    [("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:9", 200), ("[", 403), ("[x]", 403)],
)
def test_a_name_that_resolves_to_this_machine_is_refused(server: Server, host: str, code: int) -> None:
    assert server.ask("/api/runs", Host=host)[0].status == code


def test_elsewhere_a_token_works_once(storage: Store) -> None:
    access = Access(host="0.0.0.0")
    with Server(storage, access) as server:
        assert server.ask("/api/runs")[0].status == 403
        assert server.ask(f"/?token={access.token}", method="HEAD")[0].status == 403  # a chat looks at links so
        assert server.ask("/api/runs", Host="x/healthz?")[0].status == 403
        assert server.ask("/?token=wrong")[0].status == 403
        assert server.ask("/?token=%C3%BC")[0].status == 403
        answer, _ = server.ask(f"/?token={access.token}")
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and access.token not in cookie
        again, text = server.ask(f"/?token={access.token}")
        assert again.status == 403 and b"its token was used" in text
        assert server.ask("/api/runs", Cookie=cookie.partition(";")[0])[0].status == 200
        assert server.ask("/api/runs", Cookie="trainer_ui=")[0].status == 403
        assert server.ask("/healthz")[0].status == 200


def test_behind_a_proxy_nothing_is_asked(storage: Store) -> None:
    with Server(storage, Access(host="0.0.0.0", proxied=True)) as server:
        assert server.ask("/api/runs", Host="runs.example")[0].status == 200


@pytest.mark.parametrize(
    "host, local",
    [
        *((name, True) for name in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST.")),
        *((name, False) for name in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "")),
    ],
)
def test_local(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_a_storage_that_gives_no_answer_is_said(
    tmp_path: Path, storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer_app.errors import StorageUnavailableError

    index = RunIndex(storage)
    index.refresh()
    monkeypatch.setattr("trainer_app.ui.index.REFRESH_S", 0.01)

    def fail() -> None:
        raise StorageUnavailableError("no answer from s3://user:pw@host")

    monkeypatch.setattr(index, "refresh", fail)
    index.start()
    for _ in range(500):
        if index.problem:
            break
        threading.Event().wait(0.01)
    index.stop()
    page = index.page()
    assert "no answer" in page["problem"] and len(page["rows"]) == 3


def test_the_end_of_the_server_cuts_a_reading_without_a_word(
    storage: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = RunIndex(storage)

    def fail(*args: object) -> object:
        index.stop()
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr("trainer_app.ui.index.read_summary", fail)
    index._run()
    assert caplog.records == [] and index.problem == ""


def test_a_run_that_cannot_be_read_hides_no_other_and_silence_damages_none(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer_app.errors import StorageUnavailableError
    from trainer_app.results.listing import read_summary as read

    index = RunIndex(storage)
    error: list[Exception] = [RecursionError("too deep")]

    def fail(storage: Store, name: str, rebuilds: Iterator[int]) -> object:
        if name == "fashion-1":
            raise error[0]
        return read(storage, name, rebuilds)

    index.refresh()
    monkeypatch.setattr("trainer_app.ui.index.read_summary", fail)
    error.insert(0, StorageUnavailableError("no answer"))
    with pytest.raises(StorageUnavailableError):
        index.refresh()
    assert index.rows["fashion-1"]["state"] == "succeeded"
    del error[0]
    index.refresh()  # what the round before did not reach is read in this one
    assert (index.rows["fashion-1"]["state"], index.rows["fashion-1"]["error"]) == (
        "damaged",
        "RecursionError: too deep",
    )
    assert index.rows["mnist-1"]["state"] == "failed"


def test_a_storage_without_an_answer_keeps_the_list_alive(
    server: Server, storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()
    monkeypatch.setattr("trainer_app.ui.documents.Documents.get", lambda *_: waiting.wait(60))
    asking = [threading.Thread(target=server.ask, args=("/api/report?run=mnist-1",)) for _ in range(45)]
    try:
        for thread in asking:
            thread.start()
        assert server.json("/api/runs")["known"] == 3 and server.ask("/healthz")[0].status == 200
    finally:
        waiting.set()
        for thread in asking:
            thread.join()


def test_no_lock_is_kept_for_what_is_no_run(server: Server, storage: Store) -> None:
    from trainer_app.errors import NotFoundError
    from trainer_app.ui.documents import Documents

    documents = Documents(storage)
    for number in range(20):
        with pytest.raises(NotFoundError):
            documents.get([f"none-{number}"])
    tag = documents.get(["mnist-1"]).tag
    assert len(documents._locks) == 1
    assert Documents(storage).get(["mnist-1"], tag).data == b""


def test_a_run_that_changes_all_the_time_is_looked_at_in_proportion_to_its_cost(
    storage: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer_app.ui import documents

    now, made = [100.0], []

    def make(runs: Sequence[tuple[Store, str]]) -> dict[str, object]:
        made.append(now[0])
        now[0] += 2.0
        return {"number": len(made)}

    monkeypatch.setattr(documents, "report_document", make)
    monkeypatch.setattr(documents, "time", SimpleNamespace(monotonic=lambda: now[0]))
    asked = documents.Documents(storage)
    first = asked.get(["mnist-1"])
    while now[0] < 118.0:  # three browsers, each second, of a run that has changed each time
        storage.put("mnist-1/trials/t00001/trial.json", f'{{"at": {now[0]}}}'.encode())
        assert {asked.get(["mnist-1"]).tag for _ in range(3)} == {asked.get(["mnist-1"], first.tag).tag}
        now[0] += 1.0
    assert made == [100.0, 108.0, 116.0]


def test_who_asks_while_a_document_is_made_gets_the_one_before(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer_app.ui import documents

    monkeypatch.setattr(documents, "REST", 0.0)
    asked, begun, go_on = documents.Documents(storage), threading.Event(), threading.Event()
    first = asked.get(["mnist-1"])

    def make(runs: Sequence[tuple[Store, str]]) -> dict[str, object]:
        begun.set()
        assert go_on.wait(20)
        return {}

    monkeypatch.setattr(documents, "report_document", make)
    storage.put("mnist-1/trials/t00009/trial.json", b"{")
    maker = threading.Thread(target=asked.get, args=(["mnist-1"],))
    maker.start()
    try:
        assert begun.wait(20) and asked.get(["mnist-1"]).tag == first.tag
    finally:
        go_on.set()
        maker.join()
    assert asked.get(["mnist-1"]).tag != first.tag


def test_only_what_has_changed_is_read_again(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer_app.storage.folder import FolderStore
    from trainer_app.ui import documents, unchanged

    monkeypatch.setattr(documents, "REST", 0.0)
    read: list[str] = []
    get = FolderStore.get

    def noted(store: FolderStore, key: str, *, start: int = 0) -> bytes:
        read.append(key)
        return get(store, key, start=start)

    monkeypatch.setattr(FolderStore, "get", noted)
    asked = documents.Documents(storage)
    asked.get(["mnist-1"])  # its objects are younger than SETTLED_S: they are not kept
    monkeypatch.setattr(unchanged, "SETTLED_S", -1.0)
    storage.put("mnist-1/logs/driver/a0001.000.log", b"1")
    asked.get(["mnist-1"])
    everything = {key for key in read if "trials/" in key}
    read.clear()
    storage.put("mnist-1/trials/t00001/metrics/a0001-0001.jsonl", b"")
    asked.get(["mnist-1"])
    assert len(everything) > 5 and {key for key in read if "trials/" in key} == {
        "trials/t00001/metrics/a0001-0001.jsonl"
    }


def test_what_is_kept_of_objects_is_bounded(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer_app.ui import unchanged

    monkeypatch.setattr(unchanged, "SETTLED_S", -1.0)
    monkeypatch.setattr(unchanged, "MOST_BYTES", 25)
    store = unchanged.Unchanged(storage.child("big"))
    for number in range(5):
        storage.put(f"big/{number}", b"." * 10)
    list(store.list())
    assert [store.get(str(number), start=4) for number in range(5)] == [b"." * 6] * 5
    assert [len(store.get(str(number))) for number in range(5)] == [10] * 5
    assert (len(store._memory.objects), store._memory.size) == (2, 20)


def test_head_of_a_file_reads_none_of_it(server: Server, storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put("mnist-1/artifacts/a", b"a")
    monkeypatch.setattr(
        "trainer_app.storage.folder.FolderStore.get_file", lambda *_: pytest.fail("the whole file is copied")
    )
    assert server.ask("/file/mnist-1/artifacts/a", method="HEAD")[0].status == 200
    assert server.ask("/file/mnist-1/artifacts/none", method="HEAD")[0].status == 404


def test_an_answer_that_is_cut_leaves_no_folder(storage: Store, tmp_path: Path) -> None:
    import asyncio
    from concurrent.futures import CancelledError, ThreadPoolExecutor
    from contextlib import ExitStack

    from trainer_app.ui.server import _Download

    async def cut(message: object) -> None:
        raise asyncio.CancelledError

    (tmp_path / "file").write_bytes(b"a")
    folder, closed = ExitStack(), []
    folder.callback(lambda: closed.append(True))
    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}
    answer = _Download(folder, tmp_path / "file")(scope, None, cut)  # type: ignore[arg-type]
    # In a thread of its own: a browser's tests, earlier in this process, leave an event loop in this one.
    with ThreadPoolExecutor(1) as pool, pytest.raises((asyncio.CancelledError, CancelledError)):
        pool.submit(asyncio.run, answer).result()
    assert closed == [True]


@pytest.mark.parametrize("host", ["ü" * 70, "no host", "999.1.1.1", "[::1]x"])
def test_where_nothing_can_listen(host: str) -> None:
    from trainer_app.errors import InputError
    from trainer_app.ui.serving import listen

    with pytest.raises(InputError, match="cannot listen on"):
        listen(host, 0)
