"""One Ray for all local tests in this process: starting one takes 5 to 10 s."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from trainer_app.run import cluster


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """4 logical CPUs, whatever the machine has."""
    os.environ["TRAINER_NUM_CPUS"] = "4"
    with cluster.connected():
        yield
