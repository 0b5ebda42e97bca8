"""What a unit test leaves behind is gone before the next one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trainer_app.run import guard


@pytest.fixture(autouse=True)
def guards_end() -> Iterator[None]:
    """Stop a lease that a test took and kept: renewed during another test, its file is one that a trial left open."""
    yield
    for one in list(guard._guards):
        one.stop(wait_s=5)
