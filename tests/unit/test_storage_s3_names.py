"""Names of objects in a bucket that only another program can have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from trainer_app.results.listing import list_runs
from trainer_app.storage.s3 import S3Store

pytestmark = pytest.mark.unit
BAD = ("..", ".", "", "a\\b", "\x1b[31m", "x" * 300, ".tmp-1")


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_no_store_writes_hides_nothing_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` ended with an error for all runs, and so did a resume: one program may write any key."""

    def pages(self: S3Store, s3: Any, full: str, **options: str) -> Iterator[dict[str, Any]]:
        prefix = f"{full}/" if full else ""
        keys = [f"runs/{name}/run.json", "runs/good/other", f"runs/good/{name}/x", f"runs/good/a/{name}"]
        below = [key for key in keys if key.startswith(prefix)]
        folders = {prefix + key.removeprefix(prefix).partition("/")[0] + "/" for key in below}
        yield (
            {"CommonPrefixes": [{"Prefix": one} for one in folders]}
            if options
            else {"Contents": [{"Key": key, "Size": 1, "LastModified": now} for key in below]}
        )

    from datetime import UTC, datetime

    now = datetime.now(UTC)
    store = S3Store("bucket", "runs")
    monkeypatch.setattr(S3Store, "_pages", pages)
    monkeypatch.setattr(S3Store, "_s3", lambda *_: nullcontext())
    assert store.list_folders() == ["good"]
    assert [entry.key for entry in store.list()] == ["good/other"]
    assert [entry.key for entry in store.child("good").list()] == ["other"]
    monkeypatch.setattr(S3Store, "get", lambda self, key: b"")
    assert [run.name for run in list_runs("s3://bucket/runs")] == ["good"]
