"""`trainer test`: a run's best checkpoint on its test split."""

from __future__ import annotations

from trainer_app.cli.options import Allow, Epoch, ImportFrom, Json, Log, RunOrNewest, Storage, Trial
from trainer_app.cli.stored_run import stored_run


def test(
    run: RunOrNewest = None,
    trial: Trial = None,
    epoch: Epoch = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    allow: Allow = None,
    import_from: ImportFrom = None,
) -> int:
    """Score a run's best checkpoint, or another one, on the test split, loaded from its storage.

    That runs the code that the run's stored file names, as far as it can be imported here.
    """
    from trainer_app.formatting import format_pairs, sort_metrics

    with stored_run(run, storage, log, import_from, verb="test") as stored:
        from trainer_app.training import evaluate

        event = evaluate.test(stored.store, stored.name, allow=allow or (), trial=trial, epoch=epoch)
        scores = format_pairs(sort_metrics(event["metrics"]), short=False) or "no metric is logged in test_step"
        stored.write(event, f"{stored.name}: {scores}\ncheckpoint: {event['checkpoint']}", json=json)
    return 0
