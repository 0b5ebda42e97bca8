"""Ranks that do not do the same: joined, or ended with a line that names the rank and the cause. No Ray."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.two_ranks import fit_rank, on_two_ranks
from trainer_app.callbacks import rank_watch
from trainer_app.callbacks.rank_position import Position, find_problem
from trainer_app.config import RunConfig
from trainer_app.config.models import Checkpoint, Scaling

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

PATIENCE_S = 1.5
HERE = "tests.unit.test_train_ranks"


def get_rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


class Stream(IterableDataset[torch.Tensor]):
    """As many batches as its rank has."""

    def __init__(self, counts: list[int]) -> None:
        self.count = counts[get_rank()]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.full((4,), float(i)) for i in range(8 * self.count))


class Batches(L.LightningDataModule):
    def __init__(self, train: list[int] = [3, 3], val: list[int] = [2, 2], sized: bool = False) -> None:  # noqa: B006
        super().__init__()
        self.train, self.val, self.sized = train, val, sized

    def loader(self, counts: list[int]) -> Any:
        if self.sized:
            return DataLoader(TensorDataset(torch.ones(8 * counts[get_rank()], 4)), batch_size=8)
        return DataLoader(Stream(counts), batch_size=8)

    def train_dataloader(self) -> Any:
        return self.loader(self.train)

    def val_dataloader(self) -> Any:
        return self.loader(self.val)


class Net(L.LightningModule):
    """What it does on one rank alone is named by `does`."""

    def __init__(self, does: str = "") -> None:
        super().__init__()
        self.does = does
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if self.does == "raises" and self.global_rank == 1 and index == 1:
            raise ValueError("no such word")
        if self.does == "slow" and self.global_rank == 0 and index == 1:
            time.sleep(1.5 * PATIENCE_S)
            end = time.monotonic() + 1.3 * PATIENCE_S
            while time.monotonic() < end:
                pass
        if self.does == "train sync" and self.global_rank == 0:
            self.log("x", 1.0, sync_dist=True, on_step=True, on_epoch=False)
        return self.net(batch[0] if isinstance(batch, list) else batch).mean()

    def validation_step(self, batch: Any, index: int) -> None:
        loss = self.net(batch[0] if isinstance(batch, list) else batch).mean()
        if self.does == "rank_zero_only":
            self.log("val_loss", loss, rank_zero_only=True)
        elif self.does == "rank 1 only":
            if self.global_rank == 1:
                self.log("val_loss", loss)
        elif self.does == "sync on rank 0":
            if self.global_rank == 0:
                self.log("val_loss", loss, sync_dist=True)
        else:
            self.log("val_loss", loss, sync_dist=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit_fast(config: RunConfig, uri: str) -> Any:
    """A fit whose ranks are not waited for as long as in a run."""
    rank_watch.PATIENCE_S, rank_watch.SAMPLE_S = PATIENCE_S, PATIENCE_S / 10
    return fit_rank(config, uri)


def config(does: str = "", **data: Any) -> RunConfig:
    return RunConfig(
        seed_everything=3,
        model={"class_path": f"{HERE}.Net", "init_args": {"does": does}},
        data={"class_path": f"{HERE}.Batches", "init_args": data},
        trainer={"max_epochs": 2, "use_distributed_sampler": False, "log_every_n_steps": 1},
        checkpoint=Checkpoint(monitor="val_loss", mode="min"),
        scaling=Scaling(num_workers=2),
    )


FULL = pytest.mark.full
ONE_SIDED = "or a barrier, is called on some of them only"
APART = "RanksApartError: the ranks wait for each other: rank 0 waits {}; rank 1 waits {}\\. .*{}"
APART_CASES = [
    pytest.param(
        {"does": "sync on rank 0"},
        "in the sanity check",
        "in training batch 1 of epoch 1",
        ONE_SIDED,
        id="sync",
        marks=FULL,
    ),
    pytest.param(
        {"does": "train sync"},
        r"in training batch 1 of epoch 1 \(tests/unit/test_train_ranks.py:\d+\)",
        "in training batch 1 of epoch 1",
        ONE_SIDED,
        id="sync in a step",
        marks=FULL,
    ),
    pytest.param(
        {"train": [3, 2]},
        "in training batch 3 of epoch 1",
        "at the end of epoch 1, after 2 batches",
        "Rank 1 has 2 training batches and rank 0 has 3 or more: .* trainer.limit_train_batches: 2",
        id="rank 1 trains less",
    ),
    pytest.param(
        {"train": [2, 3]},
        "at the end of epoch 1, after 2 batches",
        "in training batch 3 of epoch 1",
        "Rank 0 has 2 training batches",
        id="rank 0 trains less",
        marks=FULL,
    ),
    pytest.param(
        {"val": [2, 0]},
        "in the sanity check",
        "in training batch 1 of epoch 1",
        "Rank 1 has 0 validation batches and rank 0 has 1 or more",
        id="rank 1 does not validate",
        marks=FULL,
    ),
]


@pytest.mark.parametrize("options, rank_0, rank_1, cause", APART_CASES)
def test_ranks_that_wait_for_each_other_are_ended(
    options: dict[str, Any], rank_0: str, rank_1: str, cause: str, tmp_path: Path
) -> None:
    ends = on_two_ranks(fit_fast, config(**options), str(tmp_path))
    texts = [text for _, text in ends]
    assert [how for how, _ in ends] == ["raised", "raised"], ends
    assert all(re.search(APART.format(rank_0, rank_1, cause), text) for text in texts), texts


@pytest.mark.parametrize(
    "options, names",
    [
        pytest.param({"does": "slow"}, {"val_loss"}, id="a slow rank"),
        pytest.param({"does": "rank_zero_only"}, {"val_loss"}, id="logged with rank_zero_only", marks=FULL),
        pytest.param({"does": "rank 1 only"}, {"val_loss"}, id="logged on rank 1 only", marks=FULL),
        pytest.param({"val": [2, 1]}, {"val_loss"}, id="rank 1 validates less", marks=FULL),
        pytest.param({"val": [1, 2], "sized": True}, {"val_loss"}, id="rank 0 validates less", marks=FULL),
    ],
)
def test_ranks_that_meet_again_train_to_their_end(options: dict[str, Any], names: set[str], tmp_path: Path) -> None:
    ends = on_two_ranks(fit_fast, config(**options), str(tmp_path))
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    for _, reports in ends:
        assert [report["metrics"].keys() for report in reports] == [names, names]


@pytest.mark.full
def test_a_rank_that_knows_it_has_fewer_batches_is_named_before_the_first(tmp_path: Path) -> None:
    ends = on_two_ranks(fit_fast, config(train=[3, 2], sized=True), str(tmp_path))
    said = "Rank 1 has 2 training batches and rank 0 has 3 or more: give every rank as many"
    assert all(how == "raised" and said in text for how, text in ends), ends


@pytest.mark.full
def test_a_rank_that_raises_is_named_by_the_others(tmp_path: Path) -> None:
    ends = on_two_ranks(fit_fast, config("raises"), str(tmp_path))
    error = r"ValueError: no such word \(tests/unit/test_train_ranks.py:\d+\)"
    assert re.fullmatch(f"UserError: rank 1 ended with {error}; the other ranks wait for it", ends[0][1]), ends
    assert re.fullmatch(f"UserError: {error}", ends[1][1])


def waiting(**changes: Any) -> Position:
    return replace(Position(stage="in training batch 3 of epoch 1", train_batches=3, waits_s=40.0), **changes)


@pytest.mark.parametrize(
    "other",
    [
        waiting(),  # in the same operation, which may take long
        waiting(stack=1, waits_s=0.0),  # computes, or writes a file
        waiting(stack=1, waits_s=20.0),  # has come later
    ],
)
def test_no_rank_is_ended_that_may_go_on(other: Position) -> None:
    assert find_problem([waiting(), other], 30.0) is None


@pytest.mark.parametrize(
    "other, said",
    [
        (waiting(stack=1), ONE_SIDED),
        (waiting(trained=True, train_batches=2, stage="at the end"), "Rank 1 has 2 training batches and rank 0 has 3"),
        (waiting(trained=True, stage="at the end"), ONE_SIDED),  # rank 0 is in its last batch, too
        (Position(over=True), "rank 1 has ended its fit. Rank 1 has ended before the others"),
        (Position(over=True, error="ValueError: no"), "rank 1 ended with ValueError: no; the other ranks wait for it"),
    ],
)
def test_the_cause_is_named(other: Position, said: str) -> None:
    problem = find_problem([waiting(), other], 30.0)
    assert problem is not None and said in str(problem) and "\n" not in str(problem)


def test_all_ranks_over_is_no_problem() -> None:
    assert find_problem([Position(over=True), Position(over=True)], 0.0) is None
