"""The primitives of a search space, by the names and parameters of `ray.tune`'s functions."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Self

from pydantic import Field, model_serializer, model_validator

from trainer_app.config.fields import Block, OneOfBlock, refusal

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


class _Range(_Args):
    """A primitive with bounds, which `_check` compares."""

    log: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        args, q = self.model_dump(), getattr(self, "q", None)
        lower, upper = args["lower"], args["upper"]
        if not lower < upper:
            raise refusal(f"lower ({lower}) must be less than upper ({upper})")
        if self.log and not lower > 0:
            raise refusal(f"lower ({lower}) must be greater than 0 on a logarithmic scale")
        if q is not None and q <= 0:
            raise refusal(f"q ({q}) must be greater than 0")
        for name in ("lower", "upper") if q is not None else ():
            steps = args[name] / q
            if not math.isclose(steps, round(steps)):
                raise refusal(f"{name} ({args[name]}) must be a multiple of q ({q})")
        return self


class Choice(_Values):
    categories: list[Any] = Field(min_length=1, description="The values, each as likely as the others.")


class GridSearch(_Values):
    values: list[Any] = Field(min_length=1, description="The values; each is tried, num_samples times.")


class Uniform(_Range):
    lower: float = Field(description="Lower bound.")
    upper: float = Field(description="Upper bound.")


class Loguniform(_Range):
    log = True
    lower: float = Field(description="Lower bound, greater than 0.")
    upper: float = Field(description="Upper bound.")


class Quniform(_Range):
    lower: float = Field(description="Lower bound, a multiple of q.")
    upper: float = Field(description="Upper bound, inclusive, a multiple of q.")
    q: float = Field(description="Values are rounded to multiples of q.")


class Qloguniform(Quniform):
    log = True


class Randint(_Range):
    lower: int = Field(description="Lower bound, inclusive.")
    upper: int = Field(description="Upper bound, exclusive.")


class Lograndint(Randint):
    log = True


class Qrandint(_Range):
    lower: int = Field(description="Lower bound, a multiple of q.")
    upper: int = Field(description="Upper bound, inclusive, a multiple of q.")
    q: int = Field(1, description="Values are rounded to multiples of q.")


class Qlograndint(_Range):
    log = True
    lower: int = Field(description="Lower bound, greater than 0, a multiple of q.")
    upper: int = Field(description="Upper bound, inclusive, a multiple of q.")
    q: int = Field(description="Values are rounded to multiples of q.")


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


class Primitive(OneOfBlock):
    """A distribution of one parameter: exactly one of the names below, with its arguments.

    `kind` is the name of the function in `ray.tune`, `args` its arguments by parameter name.
    """

    what = "primitive"
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
    def _check_mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            allowed = f"for example {{choice: [1, 2]}}; allowed: {', '.join(cls.model_fields)}"
            raise refusal("must be one primitive with its arguments", allowed)
        return value

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments by the function's parameter names."""
        args: dict[str, Any] = getattr(self, self.kind).model_dump()
        return args

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        short = self.kind in ("choice", "grid_search", "sample_from")
        return {self.kind: next(iter(self.args.values())) if short else self.args}
