"""The server of `trainer ui` in a thread, on a free port of this machine."""

from __future__ import annotations

import http.client
import json
from typing import Any

from trainer_app.storage import Store
from trainer_app.ui.access import Access
from trainer_app.ui.index import RunIndex
from trainer_app.ui.serving import background


class Server:
    """A server on a free port of this machine, and what it answers."""

    def __init__(self, storage: Store, access: Access) -> None:
        self.index = RunIndex(storage)
        self.index.refresh()
        self._serving = background(storage, self.index, access)

    def __enter__(self) -> Server:
        self.port = int(self._serving.__enter__().rstrip("/").rpartition(":")[2])
        return self

    def __exit__(self, *raised: Any) -> None:
        self._serving.__exit__(*raised)

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        answer, data = self.ask(path)
        assert answer.status == 200, data
        return json.loads(data)
