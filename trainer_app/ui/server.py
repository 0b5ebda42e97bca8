"""The server: a list of runs, the report of one or several, their logs and files. GET only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trainer_app.errors import InputError, NotFoundError, TrainerError
from trainer_app.formatting import one_line
from trainer_app.records.names import check_name
from trainer_app.report.clean import clean, clean_text
from trainer_app.report.page import render_page
from trainer_app.storage import Store
from trainer_app.temporary import temporary_folder
from trainer_app.ui.access import Access
from trainer_app.ui.documents import Documents
from trainer_app.ui.index import RunIndex

MOST_COMPARED: Final = 20
ASK_STORAGE: Final = 8  # requests at once that wait for the storage; the list, which does not, is answered meanwhile
SHOWN_FILES: Final = ("artifacts/", "checkpoints/", "trials/", "logs/")
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Pages:
    """The answers, one method a route. Starlette calls them in threads: each may wait for the storage."""

    def __init__(self, storage: Store, index: RunIndex) -> None:
        self.storage = storage
        self.index = index
        self.documents = Documents(storage)

    def home(self, request: Request) -> Response:
        """Return the page of the list; its rows come from `/api/runs`."""
        return Response(_read("runs.html"), media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    def list_runs(self, request: Request) -> Response:
        """Return some rows of the list as JSON."""
        query = request.query_params
        rows = self.index.page(
            text=query.get("text", "")[:200],
            state=query.get("state", ""),
            tag=query.get("tag", ""),
            sort=query.get("sort", "created")[:50],
            offset=_number(query.get("offset"), 0, 10**9),
            limit=_number(query.get("limit"), 50, 500),
        )
        return _json(clean(rows))

    def report(self, request: Request) -> Response:
        """Return the page of one run, or of several to compare."""
        names = _names(request)
        made = self.documents.get(names)
        live = "/api/report?" + "&".join(f"run={quote(name)}" for name in names)
        return Response(render_page(json.loads(made.data), live=live, tag=made.tag), media_type="text/html")

    def document(self, request: Request) -> Response:
        """Return the document of one run or several, or 304 if the asker has it."""
        known = request.headers.get("if-none-match", "").strip('"')
        made = self.documents.get(_names(request), known)
        tag = {"ETag": f'"{made.tag}"'}
        return Response(status_code=304, headers=tag) if made.tag == known else _json(made.data, tag)

    def file(self, request: Request) -> Response:
        """Return an object of a run as a download: never shown by the browser, whatever it is."""
        run_store, key = self._file(request)
        if request.method == "HEAD":
            if not run_store.exists(key):
                raise NotFoundError(f"there is no {key!r}")
            return Response(media_type="application/octet-stream")
        with ExitStack() as failing:
            path = Path(failing.enter_context(temporary_folder("ui"))) / "file"
            run_store.get_file(key, path)
            stack = failing.pop_all()
        return _Download(
            stack,
            path,
            media_type="application/octet-stream",
            filename=key.rpartition("/")[2],
            headers={"Content-Security-Policy": "sandbox; default-src 'none'"},
        )

    def _file(self, request: Request) -> tuple[Store, str]:
        name, key = check_name(request.path_params["run"]), request.path_params["key"]
        if not key.startswith(SHOWN_FILES):
            raise NotFoundError(f"run {name} shows no file {key!r}")
        return self.storage.child(name), key

    def static(self, request: Request) -> Response:
        """Return a script or a style of the list."""
        name = request.path_params["name"]
        kinds = {"runs.js": ("trainer_app.ui", "text/javascript"), "page.css": ("trainer_app.report", "text/css")}
        if name not in kinds:
            raise NotFoundError(f"there is no {name!r}")
        package, kind = kinds[name]
        return Response(_read(name, package), media_type=kind)


class _Download(FileResponse):
    """A file of a temporary folder, which is removed when the answer ends, however it ends."""

    def __init__(self, folder: ExitStack, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._folder:
            await super().__call__(scope, receive, send)


def make_app(storage: Store, index: RunIndex, access: Access) -> Starlette:
    """Return the application that uvicorn serves."""
    pages = Pages(storage, index)
    few = CapacityLimiter(ASK_STORAGE)
    routes: dict[str, Callable[[Request], Response | Awaitable[Response]]] = {
        "/": pages.home,
        "/api/runs": pages.list_runs,
        "/report": _limited(pages.report, few),
        "/api/report": _limited(pages.document, few),
        "/file/{run}/{key:path}": _limited(pages.file, few),
        "/static/{name}": pages.static,
        "/healthz": _say_ok,
    }
    return Starlette(
        routes=[Route(path, answer, methods=["GET"]) for path, answer in routes.items()],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=access)],
        exception_handlers={TrainerError: _explain},
    )


def _limited(answer: Callable[[Request], Response], few: CapacityLimiter) -> Callable[[Request], Awaitable[Response]]:
    async def wait_for_storage(request: Request) -> Response:
        return await to_thread.run_sync(answer, request, limiter=few)

    return wait_for_storage


async def _say_ok(request: Request) -> Response:
    return PlainTextResponse("ok")


def _explain(request: Request, error: Exception) -> Response:
    code = 404 if isinstance(error, NotFoundError) else 400 if isinstance(error, InputError) else 502
    return PlainTextResponse(clean_text(one_line(str(error))), code)


def _names(request: Request) -> list[str]:
    names = list(dict.fromkeys(check_name(name) for name in request.query_params.getlist("run")))
    if not 1 <= len(names) <= MOST_COMPARED:
        raise InputError(f"name 1 to {MOST_COMPARED} runs, as ?run=NAME&run=NAME")
    return names


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text[:20]), most) if text and text.isascii() and text.isdigit() else default


def _json(value: Any, headers: dict[str, str] | None = None) -> Response:
    data = value if isinstance(value, bytes) else json.dumps(value, allow_nan=False).encode()
    return Response(data, media_type="application/json", headers=headers)


def _read(name: str, package: str = "trainer_app.ui") -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
