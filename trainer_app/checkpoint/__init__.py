"""Commits: written after each epoch, verified, and chosen on resume.

A checkpoint is committed when its manifest is in storage: the payload goes first, the manifest last and atomically.
Readers never look at a payload without a manifest, and never load one whose size or SHA-256 differs from it.
"""

from trainer_app.checkpoint.commit import (
    Commit,
    attempt_of_commit,
    download_commit,
    download_newest,
    list_commits,
    newest_commit,
    read_commit,
    write_commit,
)
from trainer_app.checkpoint.retention import prune
from trainer_app.checkpoint.tensors import CommittedTensors
from trainer_app.records.manifest import PAYLOAD, Manifest

__all__ = [
    "PAYLOAD",
    "Commit",
    "CommittedTensors",
    "Manifest",
    "attempt_of_commit",
    "download_commit",
    "download_newest",
    "list_commits",
    "newest_commit",
    "prune",
    "read_commit",
    "write_commit",
]
