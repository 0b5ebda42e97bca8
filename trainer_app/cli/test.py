"""`trainer test`: a run's best checkpoint on its test split."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from trainer_app.errors import NotFound


def test(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name or URI [default: the newest].")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URI", help="Where the run lies.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    log: Annotated[str | None, typer.Option(metavar="FILE", help="Where Lightning's output goes; - for stderr.")] = None,
) -> int:
    """Score a run's best checkpoint on the test split, loading it afresh from storage."""
    from trainer_app import results
    from trainer_app.cli import noise
    from trainer_app.cli.screen import write_now

    uri, name = results.find(run, storage)
    name = name or newest(uri)
    path = None if log == "-" else Path(log).absolute() if log else noise.default_log(name)
    with noise.to_log(path) as real:
        from trainer_app import evaluate

        event = evaluate.test(uri, name)
        if json:
            text = jsonlib.dumps(event)
        else:
            scores = "  ".join(f"{k} {v:.4f}" for k, v in sorted(event["metrics"].items()))
            text = f"{name}: {scores or 'no metric is logged in test_step'}\ncheckpoint {event['checkpoint']}"
        write_now(real.out, text + "\n")
    return 0


def newest(storage: str) -> str:
    """The newest run's name.

    Raises:
        NotFound: there is none.
    """
    from trainer_app import results
    from trainer_app.storage import open_store

    found = results.newest(open_store(storage))
    if found is None:
        raise NotFound(f"there is no run in {storage}; name another with --storage")
    return found if isinstance(found, str) else found.name
