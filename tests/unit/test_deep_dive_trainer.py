"""The whole Trainer of the page "PyTorch Lightning Training — Deep Dive" on two ranks, in both precisions. No Ray."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deep_dive import FITS, train_rank
from tests.two_ranks import on_two_ranks
from trainer_app.checkpoint import list_commits
from trainer_app.storage import Store, open_store

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

NAMED = re.compile(r".*/checkpoints/epoch=\d-val/f1=\d\.\d{3}\.ckpt")


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("deep")
    ends = on_two_ranks(train_rank, folder, limit_s=120)
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    return folder, [reports for _, reports in ends]


def artifacts_of(folder: Path, precision: str) -> Store:
    return open_store(str(folder / "runs" / precision / "artifacts"))


def kept_names(store: Store) -> list[str]:
    """Return the artifacts, with those that are not sent because a commit has them."""
    keys = {entry.key for entry in store.list()}
    unsent = store.get("not-sent.txt").decode().splitlines() if "not-sent.txt" in keys else []
    return sorted(keys | {line.partition(": ")[0] for line in unsent if "its state is in checkpoints/" in line})


@pytest.mark.parametrize("precision", FITS)
def test_it_trains_on_all_ranks(precision: str, fits: tuple[Path, list[dict[str, Any]]]) -> None:
    """12 batches of 4 samples: 6 for each of 2 ranks, which are 2 steps of 4 batches at most."""
    reports, others = (of_rank[precision] for of_rank in fits[1])
    assert [report["steps"] for report in reports] == [2, 4, 6, 8]
    assert [report["metrics"] for report in reports] == [report["metrics"] for report in others]
    logged = {"train/loss", "train/acc", "val/loss", "val/acc", "val/f1", "lr-AdamW"}
    assert {*logged, "gradients/backbone.weight_norm"} <= reports[-1]["metrics"].keys()
    assert reports[-1]["metrics"]["val/f1"] > 0.7


@pytest.mark.parametrize("precision", FITS)
def test_its_checkpoints_are_kept(precision: str, fits: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = fits
    assert list_commits(open_store(str(folder / "runs" / precision / "checkpoints")))[-1].manifest.epochs == 4
    names = kept_names(artifacts_of(folder, precision))
    assert len([name for name in names if NAMED.fullmatch(name)]) == 3, names
    assert [name for name in names if name.endswith("/last.ckpt")]


def test_the_files_of_its_logger_and_profiler_are_artifacts(fits: tuple[Path, list[dict[str, Any]]]) -> None:
    names = {precision: kept_names(artifacts_of(fits[0], precision)) for precision in FITS}
    assert {"profiler/fit-perf-0.txt", "profiler/fit-perf-1.txt"} <= {*names["32-true"]}
    traces = [name for name in names["bf16-mixed"] if re.fullmatch(r"profiler/fit-perf.*\.pt\.trace\.json", name)]
    assert traces, names["bf16-mixed"]
    assert [name for name in names["32-true"] if re.fullmatch(r"wandb/offline-run-.*/run-.*\.wandb", name)]
    lines = artifacts_of(fits[0], "bf16-mixed").get("lightning_logs/version_0/metrics.csv").decode().splitlines()
    assert {"lr-AdamW", "gradients/classifier.1.bias_norm", "train/loss", "val/f1"} <= {*lines[0].split(",")}
