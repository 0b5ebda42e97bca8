"""One Ray for all local tests in this process: starting one takes 5 to 10 s."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trainer_app import cluster


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """4 logical CPUs, whatever the machine has."""
    cluster.prepare_environment()
    import ray

    arguments = cluster.init_arguments({"TRAINER_NUM_CPUS": "4"})
    ray.init(**arguments, namespace="trainer", log_to_driver=False)
    yield
    ray.shutdown()
