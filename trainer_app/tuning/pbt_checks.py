"""PBT gives a trial another trial's weights: refuse a mutation that changes their shapes before the start."""

from __future__ import annotations

from typing import Any

from trainer_app import lightning_cli
from trainer_app.config import Primitive, RunConfig, override, require_tune
from trainer_app.errors import ConfigError, Problem
from trainer_app.tuning.space import domain
from trainer_app.user_errors import plain_errors


def check_mutations(config: RunConfig) -> None:
    """Build the model with two values of each mutated `model.` key, and compare the shapes of its state.

    Raises:
        ConfigError: naming each key whose values give other shapes.
    """
    tuning = require_tune(config)
    if tuning.scheduler.kind != "pbt":
        return
    problems = []
    for key, values in tuning.scheduler.args.mutations.items():
        if not key.startswith("model."):
            continue
        first, *others = probe_values(key, values)
        base = shapes(config, key, first)
        for other in others:
            changed = sorted(n for n, s in shapes(config, key, other).items() if base.get(n) != s)
            if changed:
                problems.append(
                    Problem(
                        f"tune.scheduler.pbt.mutations.{key}",
                        f"changes the model's shapes ({changed[0]} with {first!r} and {other!r}), so a trial can't "
                        "continue with another's weights",
                        allowed="mutate keys that keep them, such as the learning rate; put this key into tune.space",
                    )
                )
    with config.locate_problems():
        if problems:
            raise ConfigError(problems)


def probe_values(key: str, values: Primitive | list[Any]) -> list[Any]:
    """Return two different values that the mutation can give, if it has two; all values of a list."""
    if isinstance(values, list):
        candidates = values
    elif values.kind == "choice":
        candidates = values.args["categories"]
    elif "lower" in values.args:
        upper = values.args["upper"]
        candidates = [values.args["lower"], upper - 1 if values.kind in ("randint", "lograndint") else upper]
    else:
        candidates = [domain(key, values).sample() for _ in range(4)]
    unlike = [candidates[0]]
    unlike += [c for c in candidates[1:] if c != unlike[0]]
    return unlike[:2] if not isinstance(values, list) else unlike


def shapes(config: RunConfig, key: str, value: Any) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of the model's state with one key of the run file changed.

    Args:
        key: the dotted key, set to `value`.

    Raises:
        UserError: the user's code can't build that model.
    """
    with plain_errors():
        parts = lightning_cli.build_parts(
            override(config, {key: value}), trainer_kwargs={"logger": False, "accelerator": "cpu"}
        )
    return {name: tuple(t.shape) for name, t in parts.model.state_dict().items()}
