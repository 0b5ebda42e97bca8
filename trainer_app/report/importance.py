"""How much each parameter of a sweep matters, by optuna's fANOVA. The extra [train] has optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from trainer_app.formatting import one_line

FEWEST: Final = 5  # trials
MOST: Final = 1000  # trials: beyond, the last ones; the forest's time grows with them
TREES: Final = 32
Rows = Sequence[tuple[dict[str, Any], float]]


def importance(rows: Rows, params: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Return {key, share} of each parameter, the most important first, and why there is none; None if there is.

    Args:
        rows: the parameters and the finite best value of each trial.
        params: as `sweep.parameters` describes them.
    """
    varied = [one for one in params if len({_plain(row[0].get(one["key"]), one) for row in rows}) > 1]
    whole = [row for row in rows if all(one["key"] in row[0] for one in varied)][-MOST:]
    if not varied or len(whole) < FEWEST or len({value for _, value in whole}) < 2:
        return [], f"it needs {FEWEST} trials with different values and parameters"
    if find_spec("optuna") is None or find_spec("sklearn") is None:
        return [], "it needs optuna: pip install 'trainer-app[train]'"
    try:
        with warnings.catch_warnings():
            shares = _evaluate(whole, varied)
    except (ValueError, ArithmeticError) as error:  # numbers that scikit-learn's forest can't take, as 1e300
        return [], f"optuna can't say: {one_line(error)}"
    return [{"key": key, "share": round(shares[key], 4)} for key in sorted(shares, key=lambda k: -shares[k])], None


def _evaluate(rows: Rows, params: Sequence[dict[str, Any]]) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    distributions = {one["key"]: _distribution(one, rows) for one in params}
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={one["key"]: _plain(values[one["key"]], one) for one in params},
                distributions=distributions,
                value=value,
            )
            for values, value in rows
        ]
    )
    shares = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(study)
    return {key: float(share) if math.isfinite(share) else 0.0 for key, share in shares.items()}


def _distribution(param: dict[str, Any], rows: Rows) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = [_plain(row[0][param["key"]], param) for row in rows]
    if param["kind"] == "category":
        return CategoricalDistribution(sorted(set(values)))
    return FloatDistribution(min(values), max(values), log=param["log"])


def _plain(value: Any, param: dict[str, Any]) -> Any:
    """Return a value as optuna's distributions take it."""
    from trainer_app.report.sweep import category

    return category(value) if param["kind"] == "category" else value
