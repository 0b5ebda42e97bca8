"""Strategies of Lightning's in a worker of Ray's: FSDP2, which Ray has no counterpart of, and how each one resumes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray.train.lightning
import ray.train.torch
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.distributed.tensor import DTensor

from trainer_app.checkpoint import Commit
from trainer_app.checkpoint.sharded import consolidate, load_shards, load_whole
from trainer_app.config import RunConfig
from trainer_app.errors import InputError
from trainer_app.lightning_cli.importing import load_object

Size = int | Literal["auto"]


class RayModelParallelStrategy(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy on Ray's workers, as `ray.train.lightning.RayDDPStrategy` is its DDPStrategy.

    Ray has made the process group and gives each worker its device. Sizes of the mesh that are "auto": all workers, or
    what the other size leaves; with both, Lightning's own rule, tensor parallel in a node and data parallel over nodes.
    """

    def __init__(
        self,
        data_parallel_size: Size = "auto",
        tensor_parallel_size: Size = "auto",
        *,
        save_distributed_checkpoint: bool = True,
    ) -> None:
        super().__init__(data_parallel_size, tensor_parallel_size, save_distributed_checkpoint)
        self.sizes = data_parallel_size, tensor_parallel_size

    @property
    def root_device(self) -> torch.device:
        """The device that Ray has given this worker."""
        device: torch.device = ray.train.torch.get_device()
        return device

    def setup_environment(self) -> None:
        """Decide on the sizes of the mesh from Ray's workers, not from devices of this process."""
        assert self.cluster_environment is not None
        sizes = mesh_sizes(*self.sizes, self.cluster_environment.world_size())
        self._data_parallel_size, self._tensor_parallel_size = sizes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Set up, and check that each parameter that is trained is sharded: FSDP2 keeps no other one equal on workers.

        Raises:
            InputError: one is not; its training would differ on each worker.
        """
        super().setup(trainer)
        assert self.model is not None
        trained = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
        loose = [name for name, one in trained if not isinstance(one, DTensor)]
        if loose and self.device_mesh["data_parallel"].size() > 1:
            few = ", ".join(loose[:3])
            raise InputError(
                f"trainer.strategy: {len(loose)} of {len(trained)} parameters are not sharded, so that each worker "
                f"would train its own: {few}; let configure_model call fully_shard on all modules, last on self"
            )


def mesh_sizes(data: Size, tensor: Size, world_size: int) -> tuple[int, int]:
    """Return the sizes of the mesh, data parallel and tensor parallel, where one of them or both are "auto"."""
    if tensor != "auto":
        return (max(1, world_size // tensor) if data == "auto" else data), tensor
    if data != "auto":
        return data, max(1, world_size // data)
    in_node = ray.train.get_context().get_local_world_size()
    return max(1, world_size // in_node), in_node


def one_process_strategy(config: RunConfig) -> Any:
    """Return the Trainer's strategy where a run's fit or test is done in this process alone.

    A module for FSDP2 shards itself in `configure_model`, over the mesh of its strategy: it gets one of one process.
    """
    path = (config.trainer.get("strategy") or {}).get("class_path")
    named = load_object("trainer.strategy", path) if path else None
    if isinstance(named, type) and issubclass(named, ModelParallelStrategy):
        return ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    return "auto"


def prepare_trainer(trainer: Trainer) -> Trainer:
    """Check strategy and environment as Ray's `prepare_trainer` does, which does not know ours."""
    if isinstance(trainer.strategy, RayModelParallelStrategy):
        return trainer
    checked: Trainer = ray.train.lightning.prepare_trainer(trainer)
    return checked


def when_configured(trainer: Trainer, model: LightningModule, action: Callable[[], None]) -> None:
    """Do something with a module that has its layers: now, or once FSDP2 has set it up, which needs a mesh for that."""
    strategy = trainer.strategy
    if not isinstance(strategy, ModelParallelStrategy):
        model.configure_model()
        action()
        return
    plain_setup = strategy.setup

    def setup(trainer: Trainer) -> None:
        plain_setup(trainer)
        action()

    strategy.setup = setup


def prepare_load(trainer: Trainer, commit: Commit, path: Path) -> str:
    """Let a Trainer load a commit, and return its `ckpt_path`.

    FSDP loads after it has sharded the model: of a sharded commit what this rank needs, and of one file this rank's,
    where Lightning has all ranks read rank 0's path, which is not on another node. Other strategies get one file.

    Args:
        trainer: built, before its fit or test.
        commit: in storage.
        path: what `download_commit` returned, in a folder of this rank.
    """
    strategy, is_sharded = trainer.strategy, commit.manifest.is_sharded
    if isinstance(strategy, ModelParallelStrategy | FSDPStrategy):
        load = (
            functools.partial(load_shards, strategy, commit) if is_sharded else functools.partial(load_whole, strategy)
        )
        strategy.load_checkpoint = lambda *args, **kwargs: load(path)
        return str(path)
    return str(consolidate(commit, path.parent) if is_sharded else path)
