"""Several runs side by side: what differs between their files, and each as a row beside the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer_app.records import to_json
from trainer_app.report.sweep import describe, with_categories


def differences(trees: Sequence[Any]) -> list[dict[str, Any]]:
    """Return {key, values}: each dotted key that not all run files have with the same value, as JSON; null is absent.

    Args:
        trees: the plain values of each; None if they are unknown.
    """
    flat = [dict(_flatten(tree)) if isinstance(tree, Mapping) else {} for tree in trees]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = [{"key": key, "values": [values.get(key) for values in flat]} for key in keys]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def comparison(runs: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return several runs as a page shows trials, what differs as their parameters; None if there is only one.

    Args:
        runs: as the document has them.
        rows: as `differences` returns them.
    """
    if len(runs) < 2:
        return None
    params = [
        {row["key"]: json.loads(row["values"][at]) for row in rows if row["values"][at] is not None}
        for at in range(len(runs))
    ]
    described = describe(params, lambda key: False)
    known = [run for run in runs if run["problem"] is None]
    metrics = list(dict.fromkeys(name for run in known for name in run["metrics"]))
    return {
        "metric": next((run["metric"] for run in known if run["metric"]), None),
        "mode": next((run["mode"] for run in known if run["mode"]), None),
        "metrics": metrics,
        "parameters": described,
        "fits": [_row(run, with_categories(values, described)) for run, values in zip(runs, params, strict=True)],
    }


def _row(run: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return a run as a row: its best value, and the curves of its own fit or of its best trial."""
    about = {"trial": run["name"], "params": params, "epochs": 0, "value": None, "best_epoch": None, "seconds": None}
    if run["problem"] is not None:
        return {**about, "state": "damaged", "reason": run["problem"], "curves": {}, "started": None, "ended": None}
    best = run["best"] or {}
    fit = next((fit for fit in run["fits"] if fit["trial"] == best.get("trial")), {"curves": {}, "epochs": 0})
    seconds = [fit["seconds"] for fit in run["fits"] if fit["seconds"] is not None]
    return {
        **about,
        "state": run["state"],
        "reason": run["error"] or "",
        "epochs": fit["epochs"],
        "value": best.get("value"),
        "best_epoch": best.get("epoch"),
        "seconds": sum(seconds) if seconds else None,
        "started": run["created"],
        "ended": run["last_sign"],
        "curves": fit["curves"],
    }


def _flatten(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, Mapping) and tree:
        return [
            pair for key, item in tree.items() for pair in _flatten(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, to_json(tree, default=str).decode())]
