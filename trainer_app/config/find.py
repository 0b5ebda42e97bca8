"""The block `find`: what Lightning's Tuner finds before a train run. Names and defaults are the Tuner's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trainer_app.config.fields import Block, refusal

_KEY = re.compile(r"(model|data|optimizer)(\.[A-Za-z_]\w*)+")


def _check_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise refusal("must be a key of model, data or optimizer", "for example model.init_args.lr")
    return key


Key = Annotated[str, AfterValidator(_check_key), Field(json_schema_extra={"pattern": f"^{_KEY.pattern}$"})]


class FindBatchSize(Block):
    """The largest batch size that fits in memory. Names as in `lightning.pytorch.tuner.Tuner.scale_batch_size`."""

    key: Key = Field("data.init_args.batch_size", description="Which key gets it.")
    mode: Literal["power", "binsearch"] = Field("power", description="Double it only, or search between two sizes.")
    steps_per_trial: int = Field(3, ge=1, description="Steps with each size.")
    init_val: int = Field(2, ge=1, description="The first size.")
    max_trials: int = Field(25, ge=1, description="Sizes that are tried.")
    margin: float = Field(0.05, ge=0, lt=1, description="With binsearch: which share of it is taken off.")
    max_val: int = Field(8192, ge=1, description="The largest size.")


class FindLr(Block):
    """The learning rate at which the loss falls fastest. Names as in `lightning.pytorch.tuner.Tuner.lr_find`."""

    key: Key = Field("model.init_args.lr", description="Which key gets it.")
    min_lr: float = Field(1e-8, gt=0, description="The first rate.")
    max_lr: float = Field(1.0, gt=0, description="The last rate.")
    num_training: int = Field(100, ge=1, description="Rates that are tried, one a step.")
    mode: Literal["exponential", "linear"] = Field("exponential", description="How the rates grow.")
    early_stop_threshold: float | None = Field(4.0, description="A loss so many times the best ends the search.")


def _expand(value: Any) -> Any:
    return {} if value is True else None if value is False else value


class Find(Block):
    """What is found before the first epoch of a train run, in this order, and recorded."""

    batch_size: Annotated[
        FindBatchSize | None, BeforeValidator(_expand, json_schema_input_type=bool | FindBatchSize | None)
    ] = Field(None, description="The batch size, as true or with the search's arguments.")
    lr: Annotated[FindLr | None, BeforeValidator(_expand, json_schema_input_type=bool | FindLr | None)] = Field(
        None, description="The learning rate, as true or with the search's arguments."
    )

    @model_validator(mode="after")
    def _different_keys(self) -> Find:
        if len(set(self.keys)) < len(self.keys):
            raise refusal("batch_size and lr have the same key")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that are found."""
        return tuple(each.key for each in (self.batch_size, self.lr) if each is not None)


def searched_keys(find: Find | None) -> tuple[str, ...]:
    """Return the dotted keys that a run file has found for it."""
    return find.keys if find else ()
