"""Delete commits: the best by a metric stay, and always the newest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from trainer_app.checkpoint.commit import Commit
from trainer_app.errors import StorageError
from trainer_app.metric_order import sort_key
from trainer_app.records.manifest import MANIFEST
from trainer_app.storage import try_once

_log: Final = logging.getLogger(__name__)


def find_surplus(commits: Sequence[Commit], *, keep: int | None, monitor: str | None, mode: str | None) -> list[Commit]:
    """Return the commits beyond `keep`: the worst by `monitor`, never the newest.

    Nor the one that is furthest in training, which an attempt that began further back may yet lose.

    The same policy as Ray's CheckpointConfig(num_to_keep, checkpoint_score_attribute, checkpoint_score_order): the
    newest is kept beside the `keep` best, since a resume starts from it. A commit whose metric is missing or
    NaN counts as the worst.

    Args:
        keep: how many stay besides; None keeps all.
        monitor: the name of a metric; None: the oldest are the worst.
        mode: "min" or "max", of the metric.
    """
    if keep is None or len(commits) <= keep:
        return []
    ordered = sorted(commits, key=lambda c: c.name)
    newest, furthest = ordered[-1], max(ordered, key=lambda c: (c.manifest.epochs, c.manifest.step, c.name))

    # sorted is stable: of equals the earliest is the better one by a metric, the latest without one
    best = sorted(
        ordered if monitor else ordered[::-1], key=lambda c: sort_key(c.manifest.metrics.get(monitor or ""), mode)
    )[:keep]
    return [c for c in ordered if c not in best and c is not newest and c is not furthest]


def prune(commits: Sequence[Commit], *, keep: int | None, monitor: str | None, mode: str | None) -> list[Commit]:
    """Delete what `find_surplus` names, manifest first, so that a half-deleted commit never counts.

    Args:
        keep, monitor, mode: as for `find_surplus`.

    Returns:
        the commits that stay, those that could not be deleted too.
    """
    gone = find_surplus(commits, keep=keep, monitor=monitor, mode=mode)
    kept = [c for c in commits if c not in gone]
    for commit in gone:
        folder = try_once(commit.store).child(commit.name)
        try:
            folder.delete(MANIFEST)
            folder.delete_prefix("")
        except StorageError as error:
            _log.warning("checkpoint %s stays until the next one is written: %s", commit.name, error)
            kept.append(commit)
    return kept
