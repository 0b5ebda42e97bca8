"""Files of torch.distributed.checkpoint in a commit: each rank writes and reads its own, nothing in them is trusted.

A commit's folder is what Lightning's ModelParallelStrategy and FSDPStrategy write: `__0_0.distcp` of rank 0 and so on,
`.metadata`, which says where each tensor is, and `meta.pt`, the rest of the checkpoint. torch reads `.metadata` with
pickle, and what is no tensor with weights_only=False: a file of a storage could run code. Neither is done here.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, filesystem, metadata
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.futures import Future

from trainer_app.checkpoint.commit import Commit, describe_file, download_object
from trainer_app.errors import CheckpointRejectedError
from trainer_app.records.manifest import METADATA, REST, PayloadObject
from trainer_app.storage import Store

_CLASSES: Final = (
    *("ChunkStorageMetadata", "TensorStorageMetadata", "BytesStorageMetadata", "Metadata", "MetadataIndex"),
    *("TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING"),
)
_ALLOWED: Final = {
    *((metadata.__name__, name) for name in _CLASSES),
    (filesystem.__name__, "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}
_RANK: Final = re.compile(r"__(\d+)_\d+\.distcp")


class ShardWriter(FileSystemWriter):
    """Writes this rank's tensors to a local folder and uploads them; rank 0 adds the rest of the checkpoint.

    Args:
        folder: a temporary one of this rank.
        store: the commit's folder.
        save_rest: called before the upload; on rank 0 it writes `meta.pt` into the folder.
    """

    def __init__(self, folder: Path, store: Store, save_rest: Callable[[], None]) -> None:
        super().__init__(folder, sync_files=False)
        self.folder, self.store, self.save_rest = folder, store, save_rest
        self.objects: dict[str, PayloadObject] = {}  # what this rank has uploaded

    def upload(self, key: str) -> None:
        """Upload a file of the folder."""
        described = describe_file(self.folder / key)
        self.store.put_file(key, self.folder / key)
        self.objects[key] = described

    def write_data(self, plan: Any, planner: Any) -> Future[Any]:
        """Upload what torch writes for this rank; an error reaches every rank."""
        self.save_rest()
        written = super().write_data(plan, planner)
        for key in sorted({result.storage_data.relative_path for result in written.value()}):
            self.upload(key)
        return written

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Upload `.metadata`, and what rank 0 has put beside it. torch calls it on rank 0, after all have written."""
        super().finish(metadata, results)
        self.upload(METADATA)
        self.upload(REST)

    def storage_meta(self) -> StorageMeta | None:
        """Return nothing: torch would note the temporary folder."""
        return None


class ShardReader(FileSystemReader):
    """Reads tensors of a commit; an object is downloaded and verified when it is first needed.

    Args:
        commit: in storage.
        folder: a local one of this rank and this commit, with those of its objects that were downloaded before.
    """

    def __init__(self, commit: Commit, folder: Path) -> None:
        super().__init__(folder)
        self.commit, self.folder = commit, folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return `.metadata`, unpickled with torch's classes of metadata only."""
        return load_metadata(self.get(METADATA))

    def read_data(self, plan: Any, planner: Any) -> Future[None]:
        """Read what the plan asks for."""
        for key in sorted({self.storage_data[item.storage_index].relative_path for item in plan.items}):
            self.get(key)
        return super().read_data(plan, planner)

    def get(self, key: str) -> Path:
        """Return the local path of an object."""
        path = self.folder / key
        listed = key in self.commit.manifest.objects
        return path if listed and path.exists() else download_object(self.commit, key, self.folder)


class SafePlanner(DefaultLoadPlanner):
    """torch's planner, which loads what is no tensor with weights_only=True."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        """Load one value; what is encoded anew holds only what was allowed."""
        encoded = io.BytesIO()
        torch.save(torch.load(value, map_location="cpu", weights_only=True), encoded)
        encoded.seek(0)
        super().load_bytes(read_item, encoded)


def rank_of_file(key: str) -> int | None:
    """Return the rank that wrote an object of a commit; None for those that belong to all."""
    match = _RANK.fullmatch(key)
    return int(match[1]) if match else None


def load_metadata(path: Path) -> Metadata:
    """Return the content of a file `.metadata`.

    Raises:
        CheckpointRejectedError: it is none, or names a class that is not torch's for metadata.
    """
    try:
        with path.open("rb") as file:
            loaded = _MetadataUnpickler(file).load()
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, EOFError, IndexError, KeyError) as e:
        raise CheckpointRejectedError(f"{METADATA} is damaged: {' '.join(str(e).split())[:200]}") from e
    if not isinstance(loaded, Metadata):
        raise CheckpointRejectedError(f"{METADATA} is damaged: it holds a {type(loaded).__name__}")
    return loaded


class _MetadataUnpickler(pickle.Unpickler):
    """Unpickles plain data of torch.distributed.checkpoint: calling these classes with anything does nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)
