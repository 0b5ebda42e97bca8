"""`trainer ui` in a browser: the list of runs, and pages that follow a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.run_samples import epoch, train_run, tune_run
from tests.ui_server import Server
from trainer_app.records import RunFolder, RunRecord
from trainer_app.records.names import generate_name
from trainer_app.storage import Store
from trainer_app.ui.access import Access

pytestmark = pytest.mark.page
Open = Callable[..., Any]


@pytest.fixture
def server(storage: Store) -> Iterator[Server]:
    train_run(storage, created=1000.0, state="succeeded", tags=["paper"], best=0.9, done=3)
    tune_run(storage, created=2000.0, state="failed", error="<img src=x onerror=alert(1)>" + "x" * 10_000)
    train_run(storage, "going-1", created=3000.0, metric="val/acc")
    storage.put("broken/run.json", b"{")
    with Server(storage, Access(host="127.0.0.1")) as server:
        yield server


@pytest.fixture
def browse(browser: Any) -> Iterator[Open]:
    """Open the list; at the end no script has failed, and nothing was asked of another server."""
    opened: list[tuple[Any, list[str]]] = []

    def open_list(server: Server, **options: Any) -> Any:
        page, complaints = browser.new_page(timezone_id="UTC", **options), list[str]()
        own = f"http://127.0.0.1:{server.port}/"
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"alert: {dialog.message}"))
        page.on("request", lambda asked: None if asked.url.startswith((own, "data:")) else complaints.append(asked.url))
        opened.append((page, complaints))
        page.goto(own)
        page.wait_for_selector("tbody tr")
        return page

    yield open_list
    for page, complaints in opened:
        assert complaints == []
        page.close()


def names(page: Any) -> list[str]:
    return page.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => row.dataset.run)")


def cell(page: Any, run: str, column: str) -> str:
    return page.locator(f'tr[data-run="{run}"] td[data-column="{column}"]').inner_text()


def until(page: Any, look: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait in the test: a page's policy lets no string be evaluated in it, which is how Playwright's own waits work."""
    for _ in range(int(seconds * 20)):
        if look():
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.inner_text("main")[:1000])


def until_names(page: Any, wanted: list[str]) -> None:
    until(page, lambda: names(page) == wanted)


def test_the_list_is_what_storage_has(server: Server, browse: Open, storage: Store) -> None:
    page = browse(server, viewport={"width": 1200, "height": 800})
    assert names(page) == ["going-1", "mnist-1", "fashion-1", "broken"]
    assert cell(page, "fashion-1", "best") == "0.9" and cell(page, "fashion-1", "done") == "3/5 epochs"
    assert cell(page, "fashion-1", "created") == "1970-01-01 00:16" and cell(page, "fashion-1", "tags") == "paper"
    assert cell(page, "mnist-1", "error").startswith("<img src=x") and page.locator("tbody img").count() == 0
    assert cell(page, "broken", "state") == "damaged"
    assert page.locator('tr[data-run="broken"] a').count() == 0
    train_run(
        storage, "a-long-name-" + "x" * 32, created=4000.0, tags=["some", "more", "y" * 40], metric="val_accuracy_mean"
    )
    server.index.refresh()
    page.reload()
    until(page, lambda: len(names(page)) == 5)
    widths = page.locator(".scroll").evaluate("(box) => [box.scrollWidth, box.clientWidth]")
    assert widths[0] <= widths[1], widths  # nothing is beyond the edge


def test_search_filter_and_sort(server: Server, browse: Open) -> None:
    page = browse(server)
    page.fill("#text", "mnist")
    until_names(page, ["mnist-1"])
    page.fill("#text", "")
    page.select_option("#state", "succeeded")
    until_names(page, ["fashion-1"])
    page.select_option("#state", "")
    page.select_option("#tag", "paper")
    until_names(page, ["fashion-1"])
    page.reload()  # the address has what was chosen
    until_names(page, ["fashion-1"])
    page.select_option("#tag", "")
    page.click("th button:text-is('run')")
    until_names(page, ["mnist-1", "going-1", "fashion-1", "broken"])
    page.click("th button:text-is('run')")
    until_names(page, ["broken", "fashion-1", "going-1", "mnist-1"])
    assert page.locator("th[aria-sort=ascending]").inner_text() == "run"


def test_runs_are_compared_and_opened_by_keyboard(server: Server, browse: Open) -> None:
    page = browse(server)
    assert page.locator("#compare").is_disabled()
    for run in ("fashion-1", "going-1"):
        page.focus(f'tr[data-run="{run}"] input')
        page.keyboard.press("Space")
    page.focus("#compare")
    page.keyboard.press("Enter")
    page.wait_for_selector("nav.tabs")
    assert page.inner_text("h1") == "2 runs"
    page.click("text=All runs")
    page.wait_for_selector("tbody tr")
    page.focus('tr[data-run="fashion-1"] a')
    page.keyboard.press("Enter")
    until(page, lambda: page.inner_text("h1") == "fashion-1")


def test_a_page_follows_its_run(server: Server, browse: Open, storage: Store) -> None:
    page = browse(server)
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if "/api/report" in answer.url else None)
    page.click('tr[data-run="going-1"] a')
    page.wait_for_selector("main h1")
    until(page, lambda: answers[:1] == [304])  # the page brings its document: it is not sent again
    assert page.evaluate("trainerReport.data.runs[0].done") == 3
    folder = RunFolder.open(storage, "going-1")
    epoch(folder.fit_folder(), 3, {"val/acc": 0.99})
    until(page, lambda: page.evaluate("trainerReport.data.runs[0].done") == 4)
    until(page, lambda: "0.99" in page.inner_text("main"))


def test_a_file_is_downloaded(server: Server, browse: Open, storage: Store) -> None:
    storage.put("fashion-1/artifacts/plots/a b.html", b"<script>alert(1)</script>")
    page = browse(server)
    page.click('tr[data-run="fashion-1"] a')
    page.click("summary:has-text('Artifacts')")
    with page.expect_download() as download:
        page.click("text=plots/a b.html")
    assert download.value.path().read_bytes() == b"<script>alert(1)</script>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(server: Server, browse: Open, scheme: str) -> None:
    page = browse(server, color_scheme=scheme)
    results = [Axe().run(page)]
    page.click('tr[data-run="mnist-1"] a')
    page.wait_for_selector("#trials tbody tr")
    results.append(Axe().run(page))
    found = [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]}"
        for result in results
        for violation in result.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert found == []


@pytest.mark.full
def test_ten_thousand_runs(storage: Store, browse: Open) -> None:
    for number in range(10_000):
        name = generate_name("mnist", now=1e9 + number)
        record = RunRecord(name=name, task="train", state="succeeded", created=1e9 + number, updated=1e9 + number)
        storage.put(f"{name}/run.json", record.to_json())
    with Server(storage, Access(host="127.0.0.1")) as server:
        page = browse(server)
        seconds = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart") / 1000
        assert len(names(page)) == 50 and names(page)[0] == generate_name("mnist", now=1e9 + 9999)
        assert seconds <= 1.0
