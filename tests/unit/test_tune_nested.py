"""What a nested trial's workers report, on its way to Tune."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest
import ray.util.queue

from trainer_app.tune import nested

pytestmark = pytest.mark.unit


class OnePlace:
    """Ray's queue of one place, in this process."""

    def __init__(self) -> None:
        self.inner: queue.Queue[dict[str, Any]] = queue.Queue(1)

    def put(self, item: dict[str, Any]) -> None:
        self.inner.put(item, timeout=10)

    def get(self, *, block: bool, timeout: float) -> dict[str, Any]:
        try:
            return self.inner.get(block=block, timeout=timeout)
        except queue.Empty:
            raise ray.util.queue.Empty from None


def reporting(count: int, arrived: OnePlace, error: Exception | None = None) -> Any:
    def fit() -> None:
        for number in range(count):
            nested.Reports(arrived).after_report(None, [{"n": number}, {"n": "of rank 1"}], None)
        if error:
            raise error

    return nested.iter_reports(fit, arrived)


@pytest.mark.parametrize("slow", [0.0, 0.05], ids=["at once", "slower than the fit"])
def test_every_report_of_rank_0_arrives(slow: float) -> None:
    seen = []
    for report in reporting(5, OnePlace()):
        time.sleep(slow)
        seen.append(report["n"])
    assert seen == [0, 1, 2, 3, 4]


def test_a_failure_comes_after_the_reports() -> None:
    arriving = reporting(2, OnePlace(), ValueError("planned"))
    assert [next(arriving)["n"], next(arriving)["n"]] == [0, 1]
    with pytest.raises(ValueError, match="planned"):
        next(arriving)
