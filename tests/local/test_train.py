"""Train runs on a real local Ray."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import ray.train
import torch

from tests.local.runs import Ran, ledger, run_file
from tests.local.toy import Toy
from tests.unit.test_train_one_worker import Seen
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError, TrainerError
from trainer_app.lightning_cli import build_parts
from trainer_app.records import RunFolder
from trainer_app.storage import open_store
from trainer_app.training import driver, evaluate

# the class, message and line of what the toy raises: no other process can unpickle it
PLANNED = "PlannedFailure: planned failure in epoch {} (tests/local/toy.py:122)"
pytestmark = [pytest.mark.local, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Ran, Path]:
    """A run of two workers that note their samples."""
    folder = tmp_path_factory.mktemp("two")
    notes = folder / "notes"
    notes.mkdir()
    config = run_file(
        folder / "runs", scaling={"num_workers": 2, "use_gpu": False}, checkpoint={"monitor": "val_acc", "mode": "max"}
    )
    config = override(config, {"model.init_args.ledger": str(notes)})
    return Ran("train", config, "two", test=True), notes


def test_a_run_of_two_workers_shards_the_samples(two_workers: tuple[Ran, Path]) -> None:
    ran, notes = two_workers
    assert ran.code == 0
    lines = ledger(notes)
    for epoch in range(3):
        by_rank = [[i for n in lines if n["epoch"] == epoch and n["rank"] == r for i in n["ids"]] for r in (0, 1)]
        assert sorted(by_rank[0] + by_rank[1]) == list(range(64))  # each sample once, over both ranks
        assert len(by_rank[0]) == len(by_rank[1]) == 32
    orders = [[i for n in lines if n["epoch"] == e and n["rank"] == 0 for i in n["ids"]] for e in range(3)]
    assert orders[0] != orders[1] != orders[2]  # shuffled anew in every epoch


def test_metrics_are_reduced_over_workers(two_workers: tuple[Ran, Path]) -> None:
    """`rank` is logged without sync: rank 0 has 0.0, rank 1 has 1.0."""
    ran, _ = two_workers
    assert [m["rank"] for m in ran.metrics()] == [0.5, 0.5, 0.5]


def test_every_epoch_is_kept_and_reported(two_workers: tuple[Ran, Path]) -> None:
    ran, _ = two_workers
    assert [line["epoch"] for line in ran.history()] == [0, 1, 2]
    assert [e["epoch"] for e in ran.of("epoch")] == [0, 1, 2]
    assert [e["metrics"] for e in ran.of("epoch")] == ran.metrics()
    assert {"train/loss", "val/loss", "val_acc", "lr"} <= ran.metrics()[0].keys()
    assert ran.of("end")[0]["state"] == ran.results.record.state == "succeeded"
    assert '"state": "succeeded"' in Path(ran.results.uri, "report.html").read_text()


def test_the_best_checkpoint_is_a_plain_lightning_one(two_workers: tuple[Ran, Path]) -> None:
    ran, _ = two_workers
    chosen = ran.results.checkpoint
    assert chosen is not None
    path = Path(chosen.uri, "checkpoint.ckpt")
    assert torch.load(path, weights_only=True)["epoch"] >= 0
    assert isinstance(Toy.load_from_checkpoint(path, weights_only=True), Toy)
    test = ran.of("test")[0]
    assert test["checkpoint"] == chosen.uri and 0.5 < test["metrics"]["test_acc"] <= 1.0


def test_a_task_scores_what_this_process_does(two_workers: tuple[Ran, Path]) -> None:
    """As for a run on GPUs, here on a CPU; on a node without a GPU that is said in one line."""
    ran, _ = two_workers
    store = open_store(ran.uri)
    assert evaluate.test_in_task(store, "two", accelerator="cpu", num_cpus=1) == ran.of("test")[0]
    with pytest.raises(TrainerError, match="has no CUDA device"):
        evaluate.test_in_task(store, "two", accelerator="gpu", num_cpus=1)
    with pytest.raises(NotFoundError, match="there is no run 'three'"):
        evaluate.test_in_task(store, "three", accelerator="cpu", num_cpus=1)


def test_an_existing_run_is_refused_and_stays_as_it_is(two_workers: tuple[Ran, Path]) -> None:
    ran, _ = two_workers
    before = ran.results.record
    with pytest.raises(AlreadyExistsError, match=r"run two exists .* trainer train --resume two"):
        Ran("train", run_file(ran.uri), "two")
    assert ran.results.record == before


def test_a_finished_run_goes_on_for_more_epochs(two_workers: tuple[Ran, Path]) -> None:
    ran, _ = two_workers
    config = loads((Path(ran.uri) / "two" / "run.yaml").read_text())
    more = Ran("train", override(config, {"trainer.max_epochs": 4}), "two", resume=True)
    assert [e["epoch"] for e in more.of("epoch")] == [3]
    assert [line["epoch"] for line in more.history()] == [0, 1, 2, 3]
    assert more.results.record.attempt == 2
    again = Ran("train", override(config, {"trainer.max_epochs": 4}), "two", resume=True)
    assert again.code == 0 and again.of("epoch") == []


def test_a_resumed_run_refuses_another_model(two_workers: tuple[Ran, Path]) -> None:
    ran, _ = two_workers
    other = run_file(ran.uri, changes={"model.init_args.hidden": 99})
    with pytest.raises(InputError, match=r"model\.init_args\.hidden.*99"):
        Ran("train", other, "two", resume=True)
    with pytest.raises(InputError, match="is a train run"):
        Ran("tune", tune_of(other), "two", resume=True)


def tune_of(config: RunConfig) -> RunConfig:
    space = {"model.init_args.lr": {"uniform": [0.1, 0.2]}}
    return override(config, {"tune": {"metric": "val_acc", "mode": "max", "space": space}})


def test_a_lost_worker_is_replaced_and_no_epoch_is_trained_twice(tmp_path: Path) -> None:
    """SIGKILL in epoch 2 of 4: the run goes on from the commit of epoch 1, with the metrics of an undisturbed one."""
    notes = tmp_path / "notes"
    notes.mkdir()
    calm = Ran("train", run_file(tmp_path / "runs", trainer={"max_epochs": 4}), "calm")
    changes = {
        "model.init_args.kill_at": 2,
        "model.init_args.once": str(tmp_path / "killed"),
        "model.init_args.ledger": str(notes),
    }
    hit = Ran("train", run_file(tmp_path / "runs", trainer={"max_epochs": 4}, changes=changes), "hit")
    assert hit.code == 0 and (tmp_path / "killed").exists()
    assert len(hit.of("retry")) == 1
    (first, _) = hit.results.fits[0].attempts
    assert first.end is not None and first.end.state == "lost" and first.end.reason == hit.of("retry")[0]["reason"]
    assert hit.metrics() == calm.metrics()
    steps = [(n["epoch"], n["step"]) for n in ledger(notes)]
    assert len(steps) == len(set(steps)) == 16


def test_a_failed_run_has_a_result_with_its_error(tmp_path: Path) -> None:
    """An error that comes twice at the same commit ends the run, though max_failures is 3."""
    ran = Ran("train", run_file(tmp_path, changes={"model.init_args.fail_at": 1}), "bad")
    assert ran.code == 1
    record = ran.results.record
    assert record.state == "failed" and record.error == PLANNED.format(1)
    assert record.traceback is not None and "toy.py" in record.traceback
    assert len(ran.of("retry")) == 1  # the first failure; the second ended it
    assert [line["epoch"] for line in ran.history()] == [0]
    folder = RunFolder.open(open_store(str(tmp_path)), "bad")
    result = driver.to_ray_result(folder, ray.train.TrainingFailedError("x"))
    assert result.metrics == ran.metrics()[-1] and result.error is not None
    assert result.checkpoint is not None and result.path == folder.uri


def test_an_error_that_passes_is_survived(tmp_path: Path) -> None:
    changes = {"model.init_args.fail_at": 1, "model.init_args.once": str(tmp_path / "failed")}
    ran = Ran("train", run_file(tmp_path / "runs", changes=changes), "shaky")
    assert ran.code == 0 and len(ran.of("retry")) == 1
    assert [line["epoch"] for line in ran.history()] == [0, 1, 2]


def test_more_workers_than_the_cluster_has_are_refused_before_a_run_is_made(tmp_path: Path) -> None:
    config = run_file(tmp_path / "runs", scaling={"num_workers": 9, "use_gpu": False})
    with pytest.raises(InputError, match="9 CPU at once but this Ray has 4"):
        Ran("train", config, "big")
    assert not (tmp_path / "runs").exists()


@pytest.mark.full
def test_the_schedule_of_a_plateau_survives_a_lost_worker(tmp_path: Path) -> None:
    """The plateau scheduler steps after the epoch's end: a commit made before it would lose the step."""
    base = {"model.init_args.plateau": True, "model.init_args.lr": 0.3}
    calm = Ran("train", run_file(tmp_path / "runs", trainer={"max_epochs": 5}, changes=base), "calm")
    assert len({m["lr"] for m in calm.metrics()}) > 1
    hits = {**base, "model.init_args.kill_at": 3, "model.init_args.once": str(tmp_path / "killed")}
    hit = Ran("train", run_file(tmp_path / "runs", trainer={"max_epochs": 5}, changes=hits), "hit")
    assert hit.metrics() == calm.metrics()


def test_a_monitor_that_is_not_logged_ends_the_run_without_a_retry(tmp_path: Path) -> None:
    config = run_file(tmp_path, checkpoint={"monitor": "val_accuracy", "mode": "max"})
    ran = Ran("train", config, "typo")
    assert ran.code == 1 and ran.of("retry") == []
    assert ran.results.record.error == (
        "checkpoint.monitor: 'val_accuracy' is not logged by the module; "
        "it logs lr, rank, threads, train/loss, val/loss, val_acc, weight_decay"
    )
    assert [line["epoch"] for line in ran.history()] == [0, 1, 2]  # a module may log it at a cadence of its own


def test_a_gan_with_a_bar_and_its_rates_trains_on_one_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As plain Lightning trains it, to the same metrics; the bar is drawn in the worker's output."""
    parts = "lightning.pytorch.callbacks"
    bar = {"class_path": f"{parts}.TQDMProgressBar", "init_args": {"refresh_rate": 2}}
    config = run_file(
        tmp_path / "runs",
        model={"class_path": "tests.unit.test_train_one_worker.Gan"},
        data={"class_path": "tests.unit.test_train_one_worker.Points"},
        trainer={"max_epochs": 2, "callbacks": [bar, {"class_path": f"{parts}.LearningRateMonitor"}]},
    )
    ran = Ran("train", config, "gan")
    assert ran.code == 0, ran.results.record.error
    plain = build_parts(config, trainer_kwargs={"devices": 1, "default_root_dir": str(tmp_path)}, callbacks=[Seen()])
    plain.trainer.fit(plain.model, datamodule=plain.datamodule)
    seen = next(c for c in plain.trainer.callbacks if isinstance(c, Seen))
    assert ran.metrics() == [pytest.approx(metrics, abs=1e-6) for metrics in seen.metrics]
    assert "Epoch 1" in "".join(capfd.readouterr())


@pytest.mark.full
def test_ranks_that_wait_for_each_other_end_within_a_minute_without_a_retry(tmp_path: Path) -> None:
    """Rank 0 alone syncs a metric. All of the run, with the start of its workers, is timed here."""
    config = run_file(
        tmp_path / "runs",
        model={"class_path": "tests.unit.test_train_ranks.Net", "init_args": {"does": "sync on rank 0"}},
        data={"class_path": "tests.unit.test_train_ranks.Batches"},
        trainer={"max_epochs": 2, "num_sanity_val_steps": 0},
        scaling={"num_workers": 2, "use_gpu": False},
    )
    start = time.monotonic()
    ran = Ran("train", config, "apart")
    assert ran.code == 1 and ran.of("retry") == []
    error = ran.results.record.error or ""
    assert "rank 0 waits in the validation of epoch 1" in error and "is called on some of them only" in error
    assert time.monotonic() - start < 60 + 30
