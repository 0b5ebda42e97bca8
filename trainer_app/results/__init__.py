"""Reads runs for people and machines, from storage alone: no Ray, no torch, nothing is unpickled."""

from trainer_app.results.document import document, list_document
from trainer_app.results.events import end_event, start_event
from trainer_app.results.listing import RunSummary, list_runs, newest
from trainer_app.results.load import find, load, read_run
from trainer_app.results.model import Best, Checkpoint, FitResults, RunResults

__all__ = [
    "Best",
    "Checkpoint",
    "FitResults",
    "RunResults",
    "RunSummary",
    "document",
    "end_event",
    "find",
    "list_document",
    "list_runs",
    "load",
    "newest",
    "read_run",
    "start_event",
]
