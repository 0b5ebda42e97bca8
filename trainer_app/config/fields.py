"""Field types and validators that the models of the run file share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from trainer_app.config.allowed_classes import ALLOWED, why_never
from trainer_app.run_names import BASE_NAME_MAX, find_name_problem, fit_name
from trainer_app.storage_uri import StorageUriError, parse_storage_uri


class Block(BaseModel):
    """A block of the run file: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def refusal(message: str, allowed: str = "") -> PydanticCustomError:
    """Return an error in plain words, for a validator to raise."""
    return PydanticCustomError("refused", "{message}", {"message": message, "allowed": allowed})


class OneOfBlock(Block):
    """A block with one of several keys, as `asha` or `{asha: {...}}`: a scheduler, searcher or primitive."""

    what: ClassVar[str] = ""
    refused: ClassVar[Mapping[str, str]] = {}  # names that users know from elsewhere, and why there is none here

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, value: Any) -> Any:
        """Return a mapping with one key; pydantic refuses unknown keys by name."""
        kinds = list(cls.model_fields)
        for name in [value] if isinstance(value, str) else value if isinstance(value, Mapping) else ():
            if name in cls.refused:
                raise refusal(f"there is no {cls.what} {name}: {cls.refused[name]}", f"allowed: {', '.join(kinds)}")
        if isinstance(value, str):
            if value not in kinds:
                raise refusal(f"unknown {cls.what}", f"allowed: {', '.join(kinds)}")
            return {value: {}}
        if not isinstance(value, Mapping):
            return value
        if len(value) != 1 and len([key for key in value if key in kinds]) != 1:
            raise refusal(f"takes one {cls.what}", f"allowed: {', '.join(kinds)}")
        return {key: {} if item is None else item for key, item in value.items()}

    @property
    def kind(self) -> str:
        """The key that is given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def args(self) -> Any:
        """The model of the parameters below the key."""
        return getattr(self, self.kind)

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {self.kind: self.args.model_dump()}


def _use_gpu(value: Any) -> Any:
    if not isinstance(value, bool) and value != "auto":
        raise refusal("must be true, false or auto")
    return value


def _seed(value: Any) -> Any:
    if value is not None and not isinstance(value, int):
        raise refusal("must be an integer, true (PL_GLOBAL_SEED, else 0) or false (no seed)")
    if value is not None and not 0 <= value <= 4294967295:
        raise refusal("must be from 0 to 4294967295")
    return value


def check_tag(tag: str) -> str:
    """Return the tag; raise if a list of tags could not show it."""
    if not tag or len(tag) > 60 or not tag.isprintable() or "," in tag or tag != tag.strip():
        raise refusal("is no tag", allowed="1 to 60 printable characters without a comma")
    return tag


def check_name(name: str) -> str:
    """Return the beginning of a run's name, to which the time is appended.

    Raises:
        PydanticCustomError: no run can have it.
    """
    if problem := find_name_problem(name, BASE_NAME_MAX):
        raise refusal(problem, f"the time is appended to it; for example {fit_name(name, BASE_NAME_MAX)}")
    return name


def check_uri(uri: str) -> str:
    """Return a storage URI that is allowed; it has no credentials.

    Raises:
        PydanticCustomError: it is not allowed.
    """
    try:
        parse_storage_uri(uri)
    except StorageUriError as e:
        raise refusal(e.message, e.allowed) from None
    return uri


def check_allowed(name: str) -> str:
    """Return the import path of a class that a checkpoint may hold.

    Raises:
        PydanticCustomError: it may never be named.
    """
    if reason := why_never(name):
        raise refusal(f"{name} is never allowed: {reason}", ALLOWED)
    return name


AllowedClass = Annotated[str, AfterValidator(check_allowed)]
UseGpu = Annotated[bool | str, BeforeValidator(_use_gpu), Field(json_schema_extra={"enum": [True, False, "auto"]})]
Seed = Annotated[bool | int | None, BeforeValidator(_seed)]
Name = Annotated[str, AfterValidator(check_name)]
Tag = Annotated[str, AfterValidator(check_tag)]
Resources = dict[str, Annotated[float, Field(ge=0)]]


class Weights(Block):
    """A checkpoint whose weights alone a new run starts from."""

    path: str = Field(min_length=1, description="A path or a URI.")
    strict: bool = Field(True, description="Whether every weight has to be in the model and in the file.")


def _expand_weights(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


WeightsOrPath = Annotated[Weights, BeforeValidator(_expand_weights, json_schema_input_type=str | Weights)]
