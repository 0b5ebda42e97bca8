"""A commit's manifest: the file whose presence makes a checkpoint count, and the only reader of it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trainer_app.errors import CheckpointRejectedError
from trainer_app.records.plain_json import from_json, rename_epoch, to_json
from trainer_app.storage_uri import find_key_problem

MANIFEST = "manifest.json"
PAYLOAD = "checkpoint.ckpt"
METADATA = ".metadata"  # of a commit of many objects: where each tensor is
REST = "meta.pt"  # of such a commit: what is no tensor of the model or an optimizer


def _refuse_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _check_key(key: str) -> str:
    if problem := find_key_problem(key):
        raise ValueError(f"{key!r} is no object's key: {problem}")
    return key


Count = Annotated[int, BeforeValidator(_refuse_boolean), Field(ge=0, le=(1 << 63) - 1)]
Time = Annotated[float, BeforeValidator(_refuse_boolean), Field(ge=0, le=1e12)]
Key = Annotated[str, AfterValidator(_check_key)]


class PayloadObject(BaseModel):
    """One object of a commit. `size` in bytes; `sha256` in hex."""

    size: Count
    sha256: str


class Schedule(BaseModel):
    """A schedule of the learning rate that was made for `total` steps and has taken `done` of them."""

    name: str
    done: Count
    total: Count


class Manifest(BaseModel):
    """What a commit holds. `epochs` counts finished epochs, `step` optimizer steps, `time` is unix seconds.

    `seconds`: from `time`, when the commit began, until all of its objects were in storage.
    `name` is the commit's own, `digest` the SHA-256 of all other fields: a damaged or misplaced manifest is rejected.
    """

    model_config = ConfigDict(extra="ignore")

    epochs: Count
    step: Count
    attempt: Count
    world_size: Count
    time: Time
    seconds: Time = 0.0
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}
    schedules: list[Schedule] = []
    objects: dict[Key, PayloadObject] = {}
    name: str = ""
    digest: str = ""

    @property
    def is_sharded(self) -> bool:
        """Whether the checkpoint is many objects, written by several ranks."""
        return METADATA in self.objects

    @model_validator(mode="before")
    @classmethod
    def _rename_epoch(cls, fields: Any) -> Any:
        """Manifests of version 0.1 have the count as `epoch`."""
        return rename_epoch(fields)

    def to_json(self) -> bytes:
        """Encode the manifest with its digest."""
        fields = json.loads(to_json(self.model_dump(exclude={"digest"})))
        return to_json({**fields, "digest": _digest(fields)})


def parse_manifest(data: bytes, *, name: str, where: str) -> Manifest:
    """Parse and verify the manifest of a commit.

    Args:
        data: the content of its manifest.json.
        name: the commit's name, which the manifest must have too: a copied folder is no commit.
        where: the manifest's URI or key, for the message.

    Raises:
        CheckpointRejectedError: the manifest is damaged, or belongs to another commit.
    """
    try:
        fields = json.loads(data)
        manifest = Manifest.model_validate(from_json(data))
        intact = fields["digest"] == _digest(fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise CheckpointRejectedError(f"{where} is damaged: {' '.join(str(e).split())[:200]}") from e
    if not intact or manifest.name != name:
        raise CheckpointRejectedError(f"{where} is damaged, or of another commit: its digest or its name differs")
    return manifest


def _digest(fields: dict[str, Any]) -> str:
    """Return the digest of a manifest's fields as its JSON has them, those of a newer version included."""
    rest = {key: value for key, value in fields.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
