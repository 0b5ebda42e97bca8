"""Read runs for users and programs, from storage only: no Ray, no torch, nothing is unpickled."""

from trainer_app.results.document import list_document, run_document
from trainer_app.results.events import end_event, start_event
from trainer_app.results.listing import RunSummary, list_runs, newest_run
from trainer_app.results.load import load_run, read_run, resolve_run
from trainer_app.results.model import Checkpoint, FitResults, RunResults, best_checkpoint
from trainer_app.results.outcome import read_outcome

__all__ = [
    "Checkpoint",
    "FitResults",
    "RunResults",
    "RunSummary",
    "best_checkpoint",
    "end_event",
    "list_document",
    "list_runs",
    "load_run",
    "newest_run",
    "read_outcome",
    "read_run",
    "resolve_run",
    "run_document",
    "start_event",
]
