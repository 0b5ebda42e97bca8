"""What a run writes about itself: plain JSON in storage, never pickle.

<storage>/<run>/run.json, run.yaml, metrics/a0001-0000.jsonl, checkpoints/..., logs/...
<storage>/<run>/trials/<trial>/trial.json, metrics/..., checkpoints/...
"""

from trainer_app.records.folder import FitFolder, RunFolder
from trainer_app.records.lines import merge_metrics, newest_lines, parse_lines, parse_part_key
from trainer_app.records.models import AttemptRecord, RunRecord, TrialRecord
from trainer_app.records.names import check_name, generate_name, trial_name
from trainer_app.records.plain_json import rename_epoch, to_json, to_plain

__all__ = [
    "AttemptRecord",
    "FitFolder",
    "RunFolder",
    "RunRecord",
    "TrialRecord",
    "check_name",
    "generate_name",
    "merge_metrics",
    "newest_lines",
    "parse_lines",
    "parse_part_key",
    "rename_epoch",
    "to_json",
    "to_plain",
    "trial_name",
]
