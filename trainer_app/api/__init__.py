"""What `from trainer_app import ...` gives: start runs and read them, from Python."""

from trainer_app.api.reading import load_run, runs
from trainer_app.api.run import Checkpoint, Run
from trainer_app.api.starting import submit, train, tune, validate

__all__ = ["Checkpoint", "Run", "load_run", "runs", "submit", "train", "tune", "validate"]
