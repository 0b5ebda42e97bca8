"""The primitives of a search space, by the names and parameters of `ray.tune`'s functions."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import Field, model_serializer, model_validator

from trainer_app.config.fields import Block, normalise_choice, refusal

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class _Args(Block):
    """A primitive's arguments: `{lower: 0, upper: 1}`, or `[0, 1]` in the order of the parameters."""

    @model_validator(mode="before")
    @classmethod
    def _positional(cls, value: Any) -> Any:
        names = list(cls.model_fields)
        if isinstance(value, list):
            if len(value) > len(names):
                raise refusal(f"takes at most {len(names)} values", f"allowed: [{', '.join(names)}]")
            return dict(zip(names, value, strict=False))
        if not isinstance(value, dict):
            raise refusal("takes a list or a mapping of its arguments", f"allowed: [{', '.join(names)}]")
        return value


class _Values(Block):
    """One list, as it is or under the parameter's name."""

    @model_validator(mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        (name,) = cls.model_fields
        if isinstance(value, dict):
            return value
        if not isinstance(value, list):
            raise refusal("takes a list of values", "for example [32, 64]")
        if not value:
            raise refusal("has no values to choose from", "for example [32, 64]")
        return {name: value}


def _bounds(args: Any, *, log: bool = False, q: float | None = None) -> None:
    if not args.lower < args.upper:
        raise refusal(f"lower ({args.lower}) must be less than upper ({args.upper})")
    if log and not args.lower > 0:
        raise refusal(f"lower ({args.lower}) must be greater than 0 on a logarithmic scale")
    if q is None:
        return
    if q <= 0:
        raise refusal(f"q ({q}) must be greater than 0")
    for name in ("lower", "upper"):
        steps = getattr(args, name) / q
        if not math.isclose(steps, round(steps)):
            raise refusal(f"{name} ({getattr(args, name)}) must be a multiple of q ({q})")


class Choice(_Values):
    categories: list[Any] = Field(min_length=1, description="The values, each as likely as the others.")


class GridSearch(_Values):
    values: list[Any] = Field(min_length=1, description="The values; each is tried, num_samples times.")


class Uniform(_Args):
    lower: float = Field(description="Lower bound.")
    upper: float = Field(description="Upper bound.")

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        _bounds(self)
        return self


class Loguniform(_Args):
    lower: float = Field(description="Lower bound, greater than 0.")
    upper: float = Field(description="Upper bound.")

    @model_validator(mode="after")
    def _check(self) -> Loguniform:
        _bounds(self, log=True)
        return self


class Quniform(_Args):
    lower: float = Field(description="Lower bound, a multiple of q.")
    upper: float = Field(description="Upper bound, inclusive, a multiple of q.")
    q: float = Field(description="Values are rounded to multiples of q.")

    @model_validator(mode="after")
    def _check(self) -> Quniform:
        _bounds(self, q=self.q)
        return self


class Qloguniform(Quniform):
    @model_validator(mode="after")
    def _check(self) -> Qloguniform:
        _bounds(self, log=True, q=self.q)
        return self


class Randint(_Args):
    lower: int = Field(description="Lower bound, inclusive.")
    upper: int = Field(description="Upper bound, exclusive.")

    @model_validator(mode="after")
    def _check(self) -> Randint:
        _bounds(self)
        return self


class Lograndint(Randint):
    @model_validator(mode="after")
    def _check(self) -> Lograndint:
        _bounds(self, log=True)
        return self


class Qrandint(_Args):
    lower: int = Field(description="Lower bound, a multiple of q.")
    upper: int = Field(description="Upper bound, inclusive, a multiple of q.")
    q: int = Field(1, description="Values are rounded to multiples of q.")

    @model_validator(mode="after")
    def _check(self) -> Qrandint:
        _bounds(self, q=self.q)
        return self


class Qlograndint(_Args):
    lower: int = Field(description="Lower bound, greater than 0, a multiple of q.")
    upper: int = Field(description="Upper bound, inclusive, a multiple of q.")
    q: int = Field(description="Values are rounded to multiples of q.")

    @model_validator(mode="after")
    def _check(self) -> Qlograndint:
        _bounds(self, log=True, q=self.q)
        return self


class Randn(_Args):
    mean: float = Field(0.0, description="Mean of the normal distribution.")
    sd: float = Field(1.0, gt=0, description="Its standard deviation.")


class Qrandn(_Args):
    mean: float = Field(description="Mean of the normal distribution.")
    sd: float = Field(gt=0, description="Its standard deviation.")
    q: float = Field(gt=0, description="Values are rounded to multiples of q.")


class SampleFrom(Block):
    func: str = Field(description="package.module:function; called with the parameters drawn so far.")

    @model_validator(mode="before")
    @classmethod
    def _name(cls, value: Any) -> Any:
        return {"func": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> SampleFrom:
        if not _FUNCTION.fullmatch(self.func):
            raise refusal("must be package.module:function")
        return self


class Primitive(Block):
    """A distribution of one parameter: exactly one of the names below, with its arguments.

    `kind` is the name of the function in `ray.tune`, `args` its arguments by parameter name.
    """

    choice: Choice | None = Field(None, description="One of a list of values.")
    uniform: Uniform | None = Field(None, description="A float between two bounds.")
    quniform: Quniform | None = Field(None, description="A float between two bounds, rounded to multiples of q.")
    loguniform: Loguniform | None = Field(None, description="A float, uniform on a logarithmic scale.")
    qloguniform: Qloguniform | None = Field(None, description="The same, rounded to multiples of q.")
    randint: Randint | None = Field(None, description="An integer; the upper bound is exclusive.")
    qrandint: Qrandint | None = Field(None, description="An integer, rounded to multiples of q.")
    lograndint: Lograndint | None = Field(None, description="An integer, uniform on a logarithmic scale.")
    qlograndint: Qlograndint | None = Field(None, description="The same, rounded to multiples of q.")
    randn: Randn | None = Field(None, description="Normally distributed.")
    qrandn: Qrandn | None = Field(None, description="Normally distributed, rounded to multiples of q.")
    grid_search: GridSearch | None = Field(None, description="Each value of a list.")
    sample_from: SampleFrom | None = Field(None, description="A function of your own.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        kinds = list(cls.model_fields)
        if not isinstance(value, dict):
            raise refusal(
                "must be one primitive with its arguments", f"for example {{choice: [1, 2]}}; {_kinds(kinds)}"
            )
        return normalise_choice(value, kinds, "primitive")

    @property
    def kind(self) -> str:
        """Name of the function in `ray.tune`."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments by the function's parameter names."""
        args: dict[str, Any] = getattr(self, self.kind).model_dump()
        return args

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        short = self.kind in ("choice", "grid_search", "sample_from")
        return {self.kind: next(iter(self.args.values())) if short else self.args}


def _kinds(kinds: list[str]) -> str:
    return f"allowed: {', '.join(kinds)}"
