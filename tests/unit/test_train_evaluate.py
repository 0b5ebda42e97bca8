"""A checkpoint's score, loaded afresh."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

from tests.trained import trained_run
from trainer_app import lightning_cli, results
from trainer_app.checkpoint import list_commits
from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import CheckpointRejectedError, InputError, NotFoundError, TrainerError, UserError
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.run import cluster
from trainer_app.storage import Store, open_store
from trainer_app.training import chosen, evaluate

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_train_evaluate"


class Numbers(L.LightningDataModule):
    """Eight numbers; the test split is 0 ... 7."""

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=4)

    def test_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.arange(8.0).unsqueeze(1)), batch_size=4)


class TrainOnly(L.LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(8, 1)), batch_size=4)


class NoTests(TrainOnly):
    def test_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.ones(0, 1)), batch_size=4)


class Untested(L.LightningModule):
    """One weight that grows by `step` in every step; 2 steps an epoch."""

    def __init__(self, step: float = 1.0, odd: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        if odd:
            self.save_hyperparameters({"thing": Thing()})
        self.step_size = step
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = -self.weight.sum()
        self.log("weight", self.weight.item(), on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("grown", self.weight.item())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


class Scored(Untested):
    def test_step(self, batch: Any, index: int) -> None:
        self.log("test/sum", (self.weight * batch[0]).mean())


class Grouped(Scored):
    """Needs a process group, as a worker of a run has one."""

    def __init__(self, step: float = 1.0) -> None:
        super().__init__(step)
        self.norm = torch.nn.SyncBatchNorm(1)

    def test_step(self, batch: Any, index: int) -> None:
        total = batch[0].sum()
        torch.distributed.all_reduce(total)
        self.trainer.strategy.barrier()
        self.norm(batch[0])
        self.log("test/sum", self.all_gather(total).sum())
        self.log("test/ranks", float(torch.distributed.get_world_size()))


class TwoSplits(Numbers):
    """Two test splits: one by a sampler that asks for the group, one by a batch sampler of its own."""

    def test_dataloader(self) -> Any:
        ones, twos = (TensorDataset(torch.full((8, 1), value)) for value in (1.0, 2.0))
        odd = BatchSampler(range(1, 8, 2), 2, drop_last=False)
        return [DataLoader(ones, sampler=DistributedSampler(ones), batch_size=4), DataLoader(twos, batch_sampler=odd)]


class ScoredBySplit(Scored):
    def test_step(self, batch: Any, index: int, dataloader_idx: int) -> None:  # type: ignore[override]
        self.log("test/sum", (self.weight * batch[0]).mean())
        self.log("test/count", float(len(batch[0])), reduce_fx="sum", add_dataloader_idx=dataloader_idx > 0)


class Writes(Scored):
    """Writes by relative path, and to its logger, what it has read by relative path."""

    def test_step(self, batch: Any, index: int) -> None:
        super().test_step(batch, index)
        Path("scores.txt").write_text(Path("labels.txt").read_text() if Path("labels.txt").exists() else "none")


class Leaves(Scored):
    def test_step(self, batch: Any, index: int) -> None:
        sys.exit(3)


class Thing:
    """Not known to torch."""


ALLOW = (f"{HERE}.Thing",)


def run_file(model: str = "Scored", data: str = "Numbers", **init: Any) -> RunConfig:
    return loads(
        f"model: {{class_path: {HERE}.{model}, init_args: {init}}}\n"
        f"data: {{class_path: {HERE}.{data}}}\n"
        f"seed_everything: 1\ntrainer: {{max_epochs: 3}}\nscaling: {{use_gpu: false}}\n"
        f"checkpoint: {{keep: null, allow: [{HERE}.Thing]}}\n"
    )


def trained(store: Store, config: RunConfig, *, trial: str | None = None, run: str = "r", **record: Any) -> RunFolder:
    """A run, or a trial of it, trained in this process."""
    return trained_run(store, config, trial=trial, run=run, allow=ALLOW, **record)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return open_store(str(tmp_path / "runs"))


def test_the_best_checkpoint_is_loaded_and_scored(store: Store) -> None:
    """The weight is 2 after the first epoch, 6 after the last; the smallest is the best here."""
    trained(store, run_file(), metric="grown", mode="min")
    event = evaluate.test(store, "r", allow=ALLOW)
    assert event["event"] == "test" and event["trial"] is None
    assert Path(event["checkpoint"]).name.endswith("e000001-s000000002")
    assert event["metrics"] == {"test/sum": pytest.approx(2 * 3.5)}


def test_the_checkpoint_of_an_epoch_is_scored(store: Store) -> None:
    trained(store, run_file())
    assert evaluate.test(store, "r", allow=ALLOW, epoch=2)["metrics"] == {"test/sum": pytest.approx(4 * 3.5)}


def test_without_a_metric_the_newest_is_scored(store: Store) -> None:
    trained(store, run_file())
    assert evaluate.test(store, "r", allow=ALLOW)["metrics"] == {"test/sum": pytest.approx(6 * 3.5)}


def test_a_trials_checkpoint_is_scored_with_its_parameters(store: Store) -> None:
    """`step` is what the trial drew: the run file says another."""
    space = "tune: {metric: grown, mode: max, space: {model.init_args.step: {choice: [0.5, 1.0, 2.0]}}}\n"
    base = loads(dump(run_file(step=1.0)) + space)
    for index, step in enumerate([0.5, 2.0, 1.0]):
        trial = f"t{index:05d}"
        folder = trained(store, run_file(step=step), trial=trial, metric="grown", mode="max")
        record = TrialRecord(trial=trial, index=index, params={"model.init_args.step": step}, state="finished")
        folder.write_trial(record)
    folder.run_store.put("run.yaml", dump(base).encode())
    event = evaluate.test(store, "r", allow=ALLOW)
    assert event["trial"] == "t00001" and "/trials/t00001/checkpoints/" in event["checkpoint"]
    assert event["metrics"] == {"test/sum": pytest.approx(12 * 3.5)}
    other = evaluate.test(store, "r", allow=ALLOW, trial="t00000", epoch=1)
    assert other["trial"] == "t00000" and other["metrics"] == {"test/sum": pytest.approx(0.5 * 2 * 3.5)}
    found = results.read_run(store, "r")
    assert found.checkpoint is not None
    config = chosen.config_of_checkpoint(folder, found, found.checkpoint, allow=ALLOW)
    assert config.model is not None and config.model["init_args"]["step"] == 2.0


def test_a_module_that_needs_a_process_group_is_scored(store: Store) -> None:
    """In a group of one, as a worker has; nothing of it is left."""
    trained(store, run_file("Grouped"))
    assert evaluate.test(store, "r", allow=ALLOW)["metrics"] == {"test/sum": 14.0, "test/ranks": 1.0}
    assert not torch.distributed.is_initialized()


def test_several_test_splits_with_samplers_of_their_own_are_scored(store: Store) -> None:
    trained(store, run_file("ScoredBySplit", "TwoSplits"))
    assert evaluate.test(store, "r", allow=ALLOW)["metrics"] == {
        "test/sum/dataloader_idx_0": 6.0,
        "test/sum/dataloader_idx_1": 12.0,
        "test/count": 8.0,
        "test/count/dataloader_idx_1": 4.0,
    }


def kept_folders(store: Store, folder: str) -> set[str]:
    """Return the folders of a fit's artifacts."""
    return {entry.key.rpartition("/")[0] for entry in store.child(folder).list()}


def test_what_a_test_writes_stays_and_is_kept(store: Store, tmp_path: Path) -> None:
    trained(store, run_file("Writes"))
    for path in (tmp_path / "work").rglob("*"):
        os.utime(path, (1, 1))
    shutil.rmtree("lightning_logs", ignore_errors=True)
    evaluate.test(store, "r", allow=ALLOW)
    assert Path("scores.txt").read_text() == "none"
    assert store.get("r/artifacts/tested/scores.txt") == b"none"
    assert kept_folders(store, "r/artifacts") == {"tested", "tested/lightning_logs/version_0"}
    assert Path("lightning_logs/version_0").is_dir()


def test_a_trial_is_tested_in_a_folder_of_its_own_with_what_it_wrote(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = trained(store, run_file("Writes"), trial="t00000")
    folder.write_trial(TrialRecord(trial="t00000", index=0, params={}, state="finished"))
    shutil.rmtree("lightning_logs", ignore_errors=True)
    store.put("r/artifacts/t00000/labels.txt", b"a b")
    for _ in range(2):
        evaluate.test(store, "r", allow=ALLOW)
        assert not list(Path.cwd().iterdir()) and not list(tmp_path.glob("trainer-work/*.used"))
        assert kept_folders(store, "r/artifacts/t00000") == {"", "tested", "tested/lightning_logs/version_0"}
        assert store.get("r/artifacts/t00000/tested/scores.txt") == b"a b"


@pytest.mark.parametrize(
    "model, data, said",
    [
        ("Untested", "Numbers", "test_step"),
        ("Scored", "TrainOnly", "test_dataloader"),
        ("Scored", "NoTests", "its test_dataloader has no batch"),
    ],
)
def test_what_has_no_test_is_said_in_one_line(store: Store, model: str, data: str, said: str) -> None:
    trained(store, run_file(model, data))
    with pytest.raises(InputError, match=rf"this run can't be tested: .*{said}") as refused:
        evaluate.test(store, "r", allow=ALLOW)
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_what_the_users_test_raises_is_told_with_its_line(store: Store) -> None:
    trained(store, run_file("Leaves"))
    with pytest.raises(UserError, match=r"called sys\.exit\(3\) \(tests/unit/test_train_evaluate\.py:\d+\)$") as raised:
        evaluate.test(store, "r", allow=ALLOW)
    assert raised.value.exit_code == 1


def test_no_checkpoint_is_said(store: Store) -> None:
    RunFolder.create(store, RunRecord(name="r", task="train"), dump(run_file()))
    with pytest.raises(NotFoundError, match="run r has no committed checkpoint"):
        evaluate.test(store, "r", allow=ALLOW)


def test_a_damaged_checkpoint_is_not_scored(store: Store) -> None:
    folder = trained(store, run_file())
    newest = list_commits(folder.fit_folder().checkpoints)[-1]
    payload = Path(newest.uri, "checkpoint.ckpt")
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(data)
    with pytest.raises(CheckpointRejectedError, match="does not match its manifest"):
        evaluate.test(store, "r", allow=ALLOW)


def test_an_allowed_class_is_loaded(store: Store) -> None:
    trained(store, run_file(odd=True))
    assert evaluate.test(store, "r", allow=ALLOW)["metrics"].keys() == {"test/sum"}


def test_a_class_that_is_not_allowed_is_refused_by_name(store: Store) -> None:
    folder = trained(store, run_file(odd=True))
    text = folder.read_config().replace(f"{HERE}.Thing", f"{HERE}.Scored")
    folder.run_store.put("run.yaml", text.encode())
    with pytest.raises(TrainerError, match="Thing"):
        evaluate.test(store, "r", allow=[f"{HERE}.Scored"])


def test_what_the_storage_allows_is_not_allowed(store: Store) -> None:
    trained(store, run_file())
    with pytest.raises(InputError, match=rf"which its storage can't decide; .*--allow {HERE}\.Thing"):
        evaluate.test(store, "r")


@pytest.mark.parametrize("use_gpu, gpus, where", [(False, 4, "cpu"), (True, 0, "cpu"), (True, 1, "a task")])
def test_what_trained_on_gpus_is_scored_on_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, use_gpu: bool, gpus: int, where: str
) -> None:
    """By what was settled and what the cluster has: the driver's own devices are not asked."""
    config = override(run_file(), {"scaling.use_gpu": "auto", "scaling.accelerator_type": "A100"})
    RunFolder.create(store, RunRecord(name="r", task="train", use_gpu=use_gpu), dump(config))
    monkeypatch.setattr(cluster, "connected", contextlib.nullcontext)
    monkeypatch.setattr(cluster, "has_gpus", lambda needed: gpus >= needed)
    monkeypatch.setattr(evaluate, "test_here", lambda store, run, accelerator, which: {"on": accelerator})
    monkeypatch.setattr(evaluate, "test_in_task", lambda store, run, **options: {"on": "a task", **options})
    asked = {
        "accelerator": "gpu",
        "which": evaluate.Which(ALLOW),
        "num_cpus": 1,
        "num_gpus": 1,
        "accelerator_type": "A100",
    }
    assert evaluate.test(store, "r", allow=ALLOW) == {"on": where, **(asked if where == "a task" else {})}


def test_the_device_is_used_to_lightning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(store, run_file())
    used = []
    build = lightning_cli.build_parts

    def noted(config: RunConfig, *, trainer_kwargs: dict[str, Any], **others: Any) -> Any:
        used.append(trainer_kwargs["accelerator"])
        return build(config, trainer_kwargs={**trainer_kwargs, "accelerator": "cpu"}, **others)

    monkeypatch.setattr(lightning_cli, "build_parts", noted)
    for accelerator in ("cpu", "gpu"):
        evaluate.test_here(store, "r", accelerator=accelerator, which=evaluate.Which(ALLOW))
    assert used == ["cpu", "gpu"]
