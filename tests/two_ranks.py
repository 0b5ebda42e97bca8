"""Fits on two ranks without Ray: two processes with a gloo group, each of which does a worker's part."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

from trainer_app.config import RunConfig
from trainer_app.run.spec import RunSpec

LIMIT_S = 250.0  # below the limit of a test: of two ranks on cores that others use, some fits took over 60 s


def on_two_ranks(function: Callable[..., Any], *args: Any, limit_s: float = LIMIT_S) -> list[tuple[str, Any]]:
    """Call `on_ranks` with two of them."""
    return on_ranks(2, function, *args, limit_s=limit_s)


def on_ranks(count: int, function: Callable[..., Any], *args: Any, limit_s: float = LIMIT_S) -> list[tuple[str, Any]]:
    """Call a function of a module in as many processes of one group.

    Returns:
        of each rank ("returned", its value), ("raised", the error's text), ("hangs", "") or ("died", "").
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "trainer_app.training.worker"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [context.Pipe() for _ in range(count)]
    ranks = [
        context.Process(target=_rank, args=(rank, count, port, pipes[rank][1], function, args), daemon=True)
        for rank in range(count)
    ]
    for process in ranks:
        process.start()
    for _, theirs in pipes:
        theirs.close()  # so that the end of a process that is killed is seen
    deadline = time.monotonic() + limit_s
    ends = [_receive(mine, max(0.0, deadline - time.monotonic())) for mine, _ in pipes]
    for process in ranks:
        process.kill()
        process.join()
    return ends


def _receive(pipe: Any, limit_s: float) -> tuple[str, Any]:
    try:
        return pipe.recv() if pipe.poll(limit_s) else ("hangs", "")
    except EOFError:
        return "died", ""


def _rank(rank: int, count: int, port: int, pipe: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    import torch

    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    torch.distributed.init_process_group("gloo", init_method="env://", rank=rank, world_size=count)
    _stand_in_for_ray()
    try:
        pipe.send(("returned", function(*args)))
    except BaseException as error:  # noqa: BLE001 - told to the test
        traceback.print_exc()
        pipe.send(("raised", f"{type(error).__name__}: {error}"))
    pipe.poll(LIMIT_S)  # as a worker of Ray's: it lives until all are ended


def _stand_in_for_ray() -> None:
    """Give the worker Ray's classes as they are outside a Ray worker: what they ask Ray for is in the group."""
    import torch
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.strategies import DDPStrategy
    from ray.train import lightning
    from torch import distributed

    from trainer_app.training import strategies, worker

    class Strategy(DDPStrategy):
        root_device = torch.device("cpu")

        @property
        def distributed_sampler_kwargs(self) -> dict[str, Any]:
            return {"num_replicas": self.world_size, "rank": self.global_rank}

    class Environment(LightningEnvironment):
        creates_processes_externally = True

        def world_size(self) -> int:
            return distributed.get_world_size()

        def global_rank(self) -> int:
            return distributed.get_rank()

        def local_rank(self) -> int:
            return distributed.get_rank()

        def set_world_size(self, size: int) -> None:
            pass

        def set_global_rank(self, rank: int) -> None:
            pass

    replaced = {"RayDDPStrategy": Strategy, "RayLightningEnvironment": Environment}
    strategies.RayModelParallelStrategy.root_device = torch.device("cpu")  # type: ignore[method-assign]
    vars(worker).update(replaced, prepare_trainer=lambda trainer: trainer)
    vars(lightning).update(replaced)  # where a run file with plugins of its own finds it


def fit_rank(config: RunConfig, uri: str, trial: str | None = None) -> list[dict[str, Any]]:
    """Do one rank's part of a train run, or of a nested trial, and return what it reported."""
    from trainer_app.training import worker

    reports: list[dict[str, Any]] = []
    spec = RunSpec(run="r", uri=uri, config="", use_gpu=False)
    worker.fit_with_ray(config, spec, trial=trial, report=reports.append)
    return reports
