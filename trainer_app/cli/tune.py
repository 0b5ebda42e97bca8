"""`trainer tune`."""

from __future__ import annotations

from trainer_app.cli.options import Allow, Events, ImportFrom, Items, Log, Name, Resume, RunStorage, Test
from trainer_app.cli.session import start
from trainer_app.run.request import RunRequest


def tune(
    items: Items = None,
    name: Name = None,
    resume: Resume = None,
    storage: RunStorage = None,
    json: Events = False,
    log: Log = None,
    test: Test = False,
    allow: Allow = None,
    import_from: ImportFrom = None,
) -> int:
    """Search the space of a run file for its best trial, on this machine or on the cluster that RAY_ADDRESS names."""
    request = RunRequest("tune", items or (), name, resume, storage, allow or (), import_from or ())
    return start(request, as_json=json, log=log, test=test)
