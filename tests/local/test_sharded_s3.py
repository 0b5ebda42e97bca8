"""Commits of many objects in a real S3, by ranks without Ray."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.s3 import S3
from tests.sharded_model import Transformer
from tests.two_ranks import on_ranks
from tests.unit.test_train_sharded import fit, fit_and_break
from trainer_app.checkpoint import Commit, list_commits
from trainer_app.checkpoint.sharded import consolidate
from trainer_app.run.orphans import find_orphans
from trainer_app.storage import open_store

pytestmark = [pytest.mark.local, pytest.mark.full, pytest.mark.filterwarnings("ignore")]


def with_keys(env: dict[str, str], function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process whose parent was there before the keys."""
    os.environ.update(env)
    return function(*args)


def test_a_kill_between_two_uploads_makes_no_commit_and_three_ranks_resume(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.uri)
    checkpoints = store.child("r/checkpoints")

    def run(ranks: int, function: Callable[..., Any], *args: Any) -> list[tuple[str, Any]]:
        return on_ranks(ranks, with_keys, s3.env, function, s3.uri, *args)

    def commit_of(epochs: int) -> Commit:
        (commit,) = [each for each in list_commits(checkpoints) if each.manifest.epochs == epochs]
        return commit

    (_, first), _ = run(2, fit, 1)
    before = commit_of(1)
    objects = {key: checkpoints.get(f"{before.name}/{key}") for key in before.manifest.objects}
    assert set(objects) == {".metadata", "meta.pt", "__0_0.distcp", "__1_0.distcp"}
    for key, described in before.manifest.objects.items():
        assert (described.size, described.sha256) == (len(objects[key]), hashlib.sha256(objects[key]).hexdigest())

    (of_other, _), killed = run(2, fit_and_break, 2, 1, "__1_0.distcp", "killed")
    assert (of_other, killed) == ("raised", ("died", ""))
    assert [commit.name for commit in list_commits(checkpoints)] == [before.name]
    (started,) = set(checkpoints.list_folders()) - {before.name}
    store.put("r/run.json", b"{}")  # it is a run's
    assert [each.key for each in find_orphans(store, older_than_s=0)] == [f"r/checkpoints/{started}"]

    resumed = run(3, fit, 2)
    assert [len(losses) for _, losses in resumed] == [1, 1, 1] and resumed[0][1][0][0] < first[0][0]
    assert set(commit_of(2).manifest.objects) == {*objects, "__2_0.distcp"}
    model = Transformer()
    model.configure_model()
    whole = torch.load(consolidate(commit_of(2), tmp_path), weights_only=True)
    assert not model.load_state_dict(whole["state_dict"]).missing_keys and len(whole["optimizer_states"]) == 1
