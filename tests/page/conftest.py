"""A real browser, Debian's Chromium, that opens pages of `trainer report` from a disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer_app.report import render_page, report_document
from trainer_app.storage import Store, open_store


@dataclass
class Opened:
    """A page that a browser shows. `complaints`: errors of its scripts and policy, and requests that left it."""

    page: Any
    document: dict[str, Any]
    complaints: list[str] = field(default_factory=list)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.page.evaluate(script)

    def draw(self) -> None:
        """Draw all charts, also those below the window."""
        self.run("trainerReport.charts.forEach((one) => { one.inView = true; one.refresh(); })")

    def chart(self, name: str) -> Any:
        """Return the element of the chart whose name begins so, in the window."""
        element = self.page.locator(f'[data-chart^="{name}"]')
        element.scroll_into_view_if_needed()
        self.page.wait_for_timeout(50)
        return element

    def drag(self, name: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse over a chart, between points in pixels from its corner."""
        box, mouse = self.chart(name).bounding_box(), self.page.mouse
        mouse.move(box["x"] + start[0], box["y"] + start[1])
        mouse.down()
        mouse.move(box["x"] + (start[0] + end[0]) / 2, box["y"] + (start[1] + end[1]) / 2, steps=3)
        mouse.move(box["x"] + end[0], box["y"] + end[1], steps=3)
        mouse.up()
        self.page.wait_for_timeout(100)

    def cells(self, table: str = "#trials") -> list[list[str]]:
        """Return the texts of a table's rows."""
        rows: list[list[str]] = self.page.locator(f"{table} tbody").evaluate(
            "(body) => [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        return rows

    def selected(self) -> set[str]:
        """Return the names of the trials, or runs, that are selected."""
        return set(self.run("[...trainerReport.view.selection].map((at) => trainerReport.view.fits[at].trial)"))

    def marks(self, name: str) -> int:
        """Return how many marks of selected trials are in the chart whose name begins so."""
        count: int = self.run(f"trainerReport.charts.find((one) => one.name.startsWith({name!r})).group.childCount()")
        return count


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium: not on PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Write a page and open it; at the end nothing may have gone wrong in it, and nothing have left it."""
    opened: list[Opened] = []

    def open_page(storage: Any, *names: str, width: int = 1280, scheme: str = "light") -> Opened:
        document = report_document([(storage, name) for name in names])
        file = tmp_path / "page.html"
        file.write_text(render_page(document), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, timezone_id="UTC")
        one = Opened(page, document)
        page.on("console", lambda message: one.complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: one.complaints.append(str(error)))
        page.on("dialog", lambda dialog: one.complaints.append(f"alert: {dialog.message}"))
        page.on("request", lambda request: one.complaints.append(request.url) if request.url != file.as_uri() else None)
        opened.append(one)
        page.goto(file.as_uri())
        return one

    yield open_page
    for one in opened:
        one.page.wait_for_timeout(50)
        assert [text for text in one.complaints if not text.startswith("data:,")] == []
        one.page.close()
