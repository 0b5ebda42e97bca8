"""One commit of a fit, from the Trainer to storage: one file, or the shards of each rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L

from trainer_app import checkpoint as ckpt
from trainer_app.checkpoint.loading import check_loadable
from trainer_app.checkpoint.safe_types import saved_at_once
from trainer_app.checkpoint.sharded import saves_shards, write_sharded
from trainer_app.errors import TrainerError
from trainer_app.records import FitFolder
from trainer_app.temporary import temporary_folder


def write(
    trainer: L.Trainer, folder: FitFolder, manifest: ckpt.Manifest, allow: Sequence[str], tensors: ckpt.CommittedTensors
) -> ckpt.Commit | None:
    """Save with all ranks, upload, and return the commit on rank 0, None on the others.

    Args:
        trainer: the fit's.
        folder: the fit's.
        manifest: without `objects` and `name`.
        allow: the run file's `checkpoint.allow`.
        tensors: of the commits before, to which those of this one are added.

    Raises:
        LeaseLostError: the fit was started again.
        TrainerError: the strategy saves a folder that is not of torch.distributed.checkpoint.
    """
    with temporary_folder("ckpt") as tmp, saved_at_once():
        if saves_shards(trainer.strategy):
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            return write_sharded(folder.checkpoints, manifest, checkpoint, Path(tmp), allow, folder.check_newest)
        path = Path(tmp, ckpt.PAYLOAD)
        trainer.save_checkpoint(path)
        if not trainer.is_global_zero:
            return None
        if path.is_dir():
            name = type(trainer.strategy).__name__
            raise TrainerError(f"{name} saves a folder, which can't be loaded safely; take fsdp or fsdp2, which can")
        check_loadable(path, allow)
        commit = ckpt.write_commit(folder.checkpoints, path, manifest, check=folder.check_newest)
        tensors.add(commit.name, path)
        return commit
