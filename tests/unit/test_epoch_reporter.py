"""A fit that is interrupted after an epoch and fitted again equals the undisturbed one: Lightning on CPU, no Ray."""

from __future__ import annotations

import collections
import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from trainer_app.callbacks.epoch import Policy
from trainer_app.checkpoint import download_newest, list_commits
from trainer_app.checkpoint.loading import load_checkpoint
from trainer_app.config import RunConfig
from trainer_app.config.tuning import Tune
from trainer_app.errors import AccessDeniedError, LeaseLostError, TrainerError
from trainer_app.records import FitFolder
from trainer_app.run.spec import RunSpec
from trainer_app.storage import open_store
from trainer_app.storage.folder import FolderStore
from trainer_app.training import worker
from trainer_app.tuning.objective import objective

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]  # Lightning's, on workers and small logs

HERE = "tests.unit.test_epoch_reporter"
EARLY = "lightning.pytorch.callbacks.EarlyStopping"
NOTED: list[tuple[int, list[int]]] = []  # (epoch, sample ids) of every training step in this process


class Samples(Dataset[tuple[int, torch.Tensor, torch.Tensor]]):
    """10 samples: three batches of 4, the last one of 2."""

    def __init__(self, number: int) -> None:
        self.x = torch.randn(10, 6, generator=torch.Generator().manual_seed(number))
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        return index, self.x[index], self.y[index]


class Plain(L.LightningModule):
    """Without validation. Depends on every generator and on its optimizer's momentum."""

    def __init__(self, schedule: str = "none", monitor: str = "loss", odd: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        if odd:
            self.save_hyperparameters({"thing": Odd(3)})
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.4), torch.nn.Linear(8, 2))
        self.schedule, self.monitor = schedule, monitor

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        ids, x, y = batch
        NOTED.append((self.current_epoch, ids.tolist()))
        noise = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())
        loss = noise * torch.nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def train_dataloader(self) -> Any:
        return DataLoader(Samples(1), batch_size=4, shuffle=True)

    def on_train_epoch_end(self) -> None:
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("weight/norm", sum(p.detach().norm() for p in self.net.parameters()))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        if self.schedule == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]
        if self.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": self.monitor}}
        return optimizer


class Validated(Plain):
    """With a validation that draws, too."""

    def validation_step(self, batch: Any, index: int) -> None:
        _, x, y = batch
        x = x + 0.01 * torch.randn_like(x)
        self.log("val/loss", torch.nn.functional.cross_entropy(self.net(x), y))

    def val_dataloader(self) -> Any:
        return DataLoader(Samples(2), batch_size=6)


class Odd:
    """A class that torch does not know."""

    def __init__(self, value: int) -> None:
        self.value = value


class Counts(Callback):
    """A user's callback with a state."""

    def __init__(self) -> None:
        self.seen = {"started": 0, "batches": 0, "ended": 0, "validated": 0}

    def on_train_epoch_start(self, *args: Any) -> None:
        self.seen["started"] += 1

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen["batches"] += 1

    def on_train_epoch_end(self, *args: Any) -> None:
        self.seen["ended"] += 1

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen["validated"] += not trainer.sanity_checking

    def state_dict(self) -> dict[str, int]:
        return dict(self.seen)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.seen = dict(state_dict)


class WorkerLostError(Exception):
    """Raised by a report, where a worker would be lost."""


@dataclass
class Fitted:
    """What a fit left behind; of attempts at one epoch the last one counts."""

    fit_folder: FitFolder
    reports: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[int, list[list[int]]] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    @property
    def metrics(self) -> list[tuple[int, int, dict[str, float]]]:
        return [(line["epoch"], line["step"], line["metrics"]) for line in self.fit_folder.read_metrics()]

    def last(self, tmp: Path) -> dict[str, Any]:
        """The newest commit's checkpoint."""
        found = download_newest(self.fit_folder.checkpoints, tmp)
        assert found is not None
        return load_checkpoint(found[1], (f"{HERE}.Odd",))


@dataclass(frozen=True)
class Case:
    """A way to train. `epochs` are counted where the fit ends by itself."""

    model: str = "Validated"
    init: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=lambda: {"max_epochs": 3})
    every: int = 1
    keep: int | None = 2
    allow: tuple[str, ...] = ()
    monitor: str | None = None

    @property
    def config(self) -> RunConfig:
        path = self.model if "." in self.model else f"{HERE}.{self.model}"
        model = {"class_path": path, "init_args": self.init}
        return RunConfig(seed_everything=11, model=model, trainer=self.trainer)


def fit(case: Case, folder: Path, *, stop_after: int | None = None) -> Fitted:
    """One attempt in `folder`; the report of epoch `stop_after` (from 1) raises."""
    fitted = Fitted(FitFolder(open_store(str(folder))))
    NOTED.clear()

    def report(said: dict[str, Any]) -> None:
        fitted.reports.append(said)
        if said["epochs"] == stop_after:
            raise WorkerLostError

    random.seed(stop_after)  # a fresh process begins with other states
    np.random.seed(stop_after)
    torch.manual_seed(stop_after or 0)
    try:
        worker.fit(
            case.config,
            fitted.fit_folder,
            policy=Policy(case.every, case.keep, case.monitor, mode="min", allow=case.allow),
            report=report,
            trainer_kwargs={"devices": 1, "accelerator": "cpu"},
            callbacks=[fitted.counts],
        )
    except WorkerLostError:
        assert stop_after is not None
    else:
        assert stop_after is None
    for epoch, ids in NOTED:
        fitted.samples.setdefault(epoch, []).append(ids)
    return fitted


CASES: dict[str, Case] = {
    "dropout, shuffled": Case(),
    "StepLR": Case(init={"schedule": "step"}),
    "plateau": Case(init={"schedule": "plateau", "monitor": "val/loss"}),
    "accumulate_grad_batches": Case(trainer={"max_epochs": 3, "accumulate_grad_batches": 2}),
    "no validation": Case("Plain"),
    "validation every second epoch": Case(trainer={"max_epochs": 4, "check_val_every_n_epoch": 2}),
    "validation within the epoch": Case(trainer={"max_epochs": 3, "val_check_interval": 2}),
    "max_steps in mid-epoch": Case(trainer={"max_steps": 11}),
    "max_steps at an epoch's end": Case("Plain", trainer={"max_steps": 9}),
    "max_steps and StepLR": Case(init={"schedule": "step"}, trainer={"max_steps": 11}),
    "max_steps and a plateau": Case("Plain", init={"schedule": "plateau"}, trainer={"max_steps": 11}),
    "max_steps that are not reached": Case(trainer={"max_steps": 999, "max_epochs": 3}),
    "new data loaders": Case(trainer={"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1}),
    "early stopping": Case(
        trainer={
            "max_epochs": 9,
            "callbacks": [{"class_path": EARLY, "init_args": {"monitor": "weight/norm", "patience": 3}}],
        }
    ),
}
STOPS = [(name, 2) for name in CASES] + [("dropout, shuffled", 1)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread costs half as much processor time again with tensors of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


_calm: dict[str, tuple[Fitted, dict[str, Any]]] = {}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Fitted, dict[str, Any]]]:
    """The undisturbed fit of a case, and its last checkpoint."""

    def find(name: str) -> tuple[Fitted, dict[str, Any]]:
        if name not in _calm:
            folder = tmp_path_factory.mktemp("calm")
            fitted = fit(CASES[name], folder / "unit")
            _calm[name] = fitted, fitted.last(folder)
        return _calm[name]

    return find


def same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit, however deep."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            same(one, other, f"{where}.{index}")
    else:
        assert a == b, where


def result_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """All that training made; not the loops' counters of batches, which a restart begins anew."""
    return {key: value for key, value in checkpoint.items() if key != "loops"}


@pytest.mark.parametrize("name, stop_after", STOPS)
def test_interrupted_and_fitted_again_equals_the_undisturbed_fit(
    name: str, stop_after: int, tmp_path: Path, calm: Callable[[str], tuple[Fitted, dict[str, Any]]]
) -> None:
    whole, wanted = calm(name)
    assert len(whole.reports) >= 3
    first = fit(CASES[name], tmp_path / "unit", stop_after=stop_after)
    assert [r["epochs"] for r in first.reports] == list(range(1, stop_after + 1))
    second = fit(CASES[name], tmp_path / "unit")
    assert [r["epochs"] for r in second.reports] == [r["epochs"] for r in whole.reports[stop_after:]]
    assert {**first.samples, **second.samples} == whole.samples
    assert first.samples.keys().isdisjoint(second.samples)
    assert second.metrics == whole.metrics
    assert [r["metrics"] for r in first.reports + second.reports] == [r["metrics"] for r in whole.reports]
    assert [r["steps"] for r in first.reports + second.reports] == [r["steps"] for r in whole.reports]
    same(result_of(second.last(tmp_path / "to")), result_of(wanted))


def test_the_metrics_are_those_of_the_whole_epoch(calm: Callable[[str], tuple[Fitted, dict[str, Any]]]) -> None:
    """Also what the module logs in its own on_train_epoch_end; Lightning has stepped the rate by then."""
    whole, checkpoint = calm("StepLR")
    assert [sorted(metrics) for _, _, metrics in whole.metrics] == [["loss", "lr", "val/loss", "weight/norm"]] * 3
    assert [m["lr"] for _, _, m in whole.metrics] == pytest.approx([0.2 * 0.7, 0.2 * 0.7**2, 0.2 * 0.7**3])
    assert checkpoint["lr_schedulers"][0]["_last_lr"] == pytest.approx([0.2 * 0.7**3])
    norm = sum(float(weight.norm()) for weight in checkpoint["state_dict"].values())
    assert whole.metrics[-1][2]["weight/norm"] == pytest.approx(norm, rel=1e-5)


def test_an_epoch_without_validation_does_not_repeat_the_last_ones_metrics(
    calm: Callable[[str], tuple[Fitted, dict[str, Any]]],
) -> None:
    whole, _ = calm("validation every second epoch")
    assert ["val/loss" in metrics for _, _, metrics in whole.metrics] == [False, True, False, True]
    assert all({"loss", "lr", "weight/norm"} <= metrics.keys() for _, _, metrics in whole.metrics)


def test_lightning_alone_goes_on_from_a_commit(tmp_path: Path) -> None:
    """The checkpoint is a plain one: two of three epochs are done, three of nine steps are left."""
    first = fit(Case("Plain"), tmp_path / "unit", stop_after=2)
    payload = Path(list_commits(first.fit_folder.checkpoints)[-1].uri, "checkpoint.ckpt")
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    NOTED.clear()
    trainer.fit(Plain.load_from_checkpoint(payload, weights_only=True), ckpt_path=payload, weights_only=True)
    assert [epoch for epoch, _ in NOTED] == [2, 2, 2]
    assert (trainer.current_epoch, trainer.global_step) == (3, 9)


def test_a_users_callback_counts_each_epoch_once(calm: Callable[[str], tuple[Fitted, dict[str, Any]]]) -> None:
    """The equality of the table's fits includes the callbacks' states; these are the right ones."""
    whole, checkpoint = calm("dropout, shuffled")
    assert checkpoint["callbacks"]["Counts"] == whole.counts.seen
    assert whole.counts.seen == {"started": 3, "batches": 9, "ended": 3, "validated": 3}


def test_what_early_stopping_waited_for_is_not_forgotten(
    calm: Callable[[str], tuple[Fitted, dict[str, Any]]],
) -> None:
    whole, checkpoint = calm("early stopping")
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("EarlyStopping"))
    assert len(whole.reports) == state["stopped_epoch"] + 1 == 4  # the norm grows from the first epoch on


def test_commits_every_second_epoch_and_at_the_end(tmp_path: Path) -> None:
    """Interrupted after the third: the fit goes on from the second, and says the third epoch again."""
    case = Case("Plain", trainer={"max_epochs": 5}, every=2, keep=None)
    whole = fit(case, tmp_path / "calm")
    assert [bool(r["commit"]) for r in whole.reports] == [False, True, False, True, True]
    assert [c.manifest.epochs for c in list_commits(whole.fit_folder.checkpoints)] == [2, 4, 5]
    assert all(c.manifest.seconds > 0 for c in list_commits(whole.fit_folder.checkpoints))
    assert [line["committed"] > 0 for line in whole.fit_folder.read_metrics()] == [False, False, True, False, True]
    first = fit(case, tmp_path / "unit", stop_after=3)
    assert [c.manifest.epochs for c in list_commits(first.fit_folder.checkpoints)] == [2]
    second = fit(case, tmp_path / "unit")
    assert [r["epochs"] for r in second.reports] == [3, 4, 5]
    assert {**first.samples, **second.samples} == whole.samples
    assert second.metrics == whole.metrics
    names = [(c.manifest.epochs, c.manifest.attempt) for c in list_commits(second.fit_folder.checkpoints)]
    assert names == [(2, 1), (4, 2), (5, 2)]
    same(result_of(second.last(tmp_path / "a")), result_of(whole.last(tmp_path / "b")))


@pytest.mark.parametrize("denied", ["delete", "delete_prefix"])
def test_a_checkpoint_that_cant_be_deleted_ends_nothing_and_goes_with_a_later_one(
    denied: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report comes before the deletion."""
    seen: list[int] = []
    denials = [AccessDeniedError("no deletion"), AccessDeniedError("no deletion")]
    delete = getattr(FolderStore, denied)

    def refused(self: FolderStore, key: str) -> None:
        seen.append(len(NOTED))
        if denials:
            raise denials.pop()
        delete(self, key)

    monkeypatch.setattr(FolderStore, denied, refused)
    case = Case("Plain", trainer={"max_epochs": 5}, keep=1)
    fitted = fit(case, tmp_path / "unit")
    assert [r["epochs"] for r in fitted.reports] == [1, 2, 3, 4, 5] and seen
    assert [c.manifest.epochs for c in list_commits(fitted.fit_folder.checkpoints)] == [5]
    assert len(fitted.fit_folder.checkpoints.list_folders()) == 1


def test_a_damaged_commit_costs_an_epoch_and_nothing_else(
    tmp_path: Path, calm: Callable[[str], tuple[Fitted, dict[str, Any]]]
) -> None:
    whole, wanted = calm("dropout, shuffled")
    first = fit(CASES["dropout, shuffled"], tmp_path / "unit", stop_after=2)
    commit = list_commits(first.fit_folder.checkpoints)[-1]
    payload = Path(commit.uri, "checkpoint.ckpt")
    payload.write_bytes(payload.read_bytes()[:-1])
    second = fit(CASES["dropout, shuffled"], tmp_path / "unit")
    assert [r["epochs"] for r in second.reports] == [2, 3]
    assert second.samples == {epoch: whole.samples[epoch] for epoch in (1, 2)}
    assert second.metrics == whole.metrics
    same(result_of(second.last(tmp_path / "to")), result_of(wanted))


def test_a_fit_that_has_ended_does_nothing_more(tmp_path: Path) -> None:
    """Interrupted in its very last report, and then once more."""
    case = Case("Plain", trainer={"max_epochs": 2})
    first = fit(case, tmp_path / "unit", stop_after=2)
    before = {e.key for e in first.fit_folder.store.list()}  # beside attempts/, where each start takes its number
    for _ in range(2):
        again = fit(case, tmp_path / "unit")
        assert again.reports == [] and again.samples == {}
    after = {e.key for e in first.fit_folder.store.list()} - before
    assert all(key.startswith("attempts/") for key in after), after


def test_objects_that_torch_refuses_are_named_before_the_first_step(tmp_path: Path) -> None:
    case = Case("Plain", init={"odd": True}, trainer={"max_epochs": 2})
    with pytest.raises(TrainerError, match=rf"{HERE}\.Odd.*checkpoint\.allow: \[{HERE}\.Odd\]") as refused:
        fit(case, tmp_path / "unit")
    assert "\n" not in str(refused.value)
    assert NOTED == []
    assert list_commits(FitFolder(open_store(str(tmp_path / "unit"))).checkpoints) == []


class Keeper(Callback):
    """Keeps numbers of NumPy, and from its second epoch on what torch can't load."""

    best, odd_from = np.float64("inf"), 99

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.best = np.minimum(self.best, np.float64(trainer.callback_metrics["loss"].item()))
        self.by_epoch = collections.defaultdict(list, {np.int64(trainer.current_epoch): [np.arange(3)]})

    def state_dict(self) -> dict[str, Any]:
        if not hasattr(self, "by_epoch"):
            raise AttributeError("a state that the first epoch makes")
        odd = {"odd": Odd(1)} if len(NOTED) >= 3 * self.odd_from else {}
        return {"best": self.best, "by_epoch": self.by_epoch, **odd}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.by_epoch = state_dict["best"], state_dict["by_epoch"]


class LateKeeper(Keeper):
    odd_from = 2


def test_numpy_in_a_callbacks_state_is_saved_and_loaded_again(tmp_path: Path) -> None:
    """A state_dict that raises before the first epoch is the first commit's matter, not the rehearsal's."""
    case = Case("Plain", trainer={"max_epochs": 2, "callbacks": [{"class_path": f"{HERE}.Keeper"}]})
    fit(case, tmp_path / "unit", stop_after=1)
    second = fit(case, tmp_path / "unit")
    state = second.last(tmp_path / "to")["callbacks"]["Keeper"]
    assert state["best"] == np.float64(min(metrics["loss"] for _, _, metrics in second.metrics))
    assert state["by_epoch"].default_factory is list and list(state["by_epoch"]) == [1]


def test_a_later_state_that_torch_refuses_is_never_a_commit(tmp_path: Path) -> None:
    case = Case("Plain", trainer={"max_epochs": 3, "callbacks": [{"class_path": f"{HERE}.LateKeeper"}]})
    with pytest.raises(TrainerError, match=rf"checkpoint\.allow: \[{HERE}\.Odd\]"):
        fit(case, tmp_path / "unit")
    assert [c.manifest.epochs for c in list_commits(FitFolder(open_store(str(tmp_path / "unit"))).checkpoints)] == [1]


def test_an_allowed_class_is_saved_and_loaded_again(tmp_path: Path) -> None:
    case = Case("Plain", init={"odd": True}, trainer={"max_epochs": 2}, allow=(f"{HERE}.Odd",))
    first = fit(case, tmp_path / "unit", stop_after=1)
    second = fit(case, tmp_path / "unit")
    assert [r["epochs"] for r in first.reports + second.reports] == [1, 2]
    assert second.last(tmp_path / "to")["hyper_parameters"]["thing"].value == 3


def test_a_report_says_where_its_commit_lies(calm: Callable[[str], tuple[Fitted, dict[str, Any]]]) -> None:
    whole, _ = calm("dropout, shuffled")
    last = whole.reports[-1]
    newest = list_commits(whole.fit_folder.checkpoints)[-1]
    assert (last["epochs"], last["steps"]) == (3, 9)
    assert (last["commit"], last["uri"]) == (newest.name, newest.uri)
    assert newest.manifest.metrics == last["metrics"]
    elapsed = [r["elapsed"] for r in whole.reports]
    assert 0 < elapsed[0] < elapsed[1] < elapsed[2]


@pytest.mark.parametrize("every", [1, 2])
def test_a_monitor_that_no_epoch_logs_is_an_error_at_the_end(
    tmp_path: Path, every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not before, but the log hints at it: a module may log it at a cadence of its own. All epochs are committed."""
    case = Case(trainer={"max_epochs": 2, "check_val_every_n_epoch": every}, monitor="val_loss")
    with pytest.raises(TrainerError, match=r"^checkpoint\.monitor: 'val_loss' is not logged") as refused:
        fit(case, tmp_path / "unit")
    assert str(refused.value).endswith("; it logs loss, lr, val/loss, weight/norm")
    assert capsys.readouterr().err.count(f"{refused.value}. An error, at the end, if no epoch does") == 1
    fit_folder = FitFolder(open_store(str(tmp_path / "unit")))
    assert [line["epoch"] for line in fit_folder.read_metrics()] == [0, 1]
    assert [c.manifest.epochs for c in list_commits(fit_folder.checkpoints)] == [1, 2]
    assert fit(replace(case, monitor="val/loss"), tmp_path / "unit").reports == []


class Sometimes(Validated):
    """Logs a metric in its second epoch only."""

    def on_validation_epoch_end(self) -> None:
        if self.current_epoch == 1:
            self.log("fid", 0.5)


def test_a_monitor_that_one_epoch_logs_is_no_error(tmp_path: Path) -> None:
    """Also if the attempt that ends the run has not logged it."""
    case = Case("Sometimes", trainer={"max_epochs": 4}, monitor="fid")
    first = fit(case, tmp_path / "unit", stop_after=2)
    second = fit(case, tmp_path / "unit")
    logged = [report["metrics"].get("fid") for report in first.reports + second.reports]
    assert logged == [None, 0.5, None, None]


@pytest.mark.parametrize(
    "trainer",
    [
        {"max_epochs": 2},
        {"max_epochs": 3, "check_val_every_n_epoch": 2},
        {"max_epochs": 1, "check_val_every_n_epoch": 2},
        {"max_steps": 2},
        {"max_epochs": 2, "check_val_every_n_epoch": None, "val_check_interval": 100},
    ],
    ids=str,
)
def test_a_monitor_that_is_not_due_yet_is_not_missed(tmp_path: Path, trainer: dict[str, Any]) -> None:
    """`max_steps: 2` ends the first epoch before its validation."""
    assert fit(Case(trainer=trainer, monitor="val/loss"), tmp_path / "unit").reports


SWEEP = {"metric": "val/loss", "mode": "min", "space": {"model.init_args.schedule": {"choice": ["none"]}}}


@pytest.mark.parametrize(
    "trainer, metric, logged",
    [
        ({"max_steps": 7}, "val/loss", [True, True, False]),  # three batches an epoch: it ends in the third
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, "val/loss", [False, True, False]),
        ({"max_epochs": 3, "check_val_every_n_epoch": None, "val_check_interval": 5}, "val/loss", [False, True, False]),
        ({"max_steps": 2}, "val/loss", None),
        ({"max_epochs": 1}, "val_loss", None),
    ],
    ids=str,
)
def test_a_trial_ends_with_the_metric_that_it_has(
    trainer: dict[str, Any], metric: str, logged: list[bool] | None, tmp_path: Path
) -> None:
    """One that never had it fails at its end: nothing could be compared."""
    config = Case(trainer=trainer).config.model_copy(update={"tune": Tune.model_validate({**SWEEP, "metric": metric})})
    spec = RunSpec(run="r", uri=str(tmp_path), config="", use_gpu=False)
    values: list[float | None] = []
    fit_of_trial = functools.partial(
        worker.fit,
        config,
        spec.fit_folder("t00000"),
        policy=worker.policy(config, spec, task="tune"),
        report=lambda result: values.append(objective(config, result)),
        trainer_kwargs=worker.one_device(spec),
    )
    if logged is None:
        with pytest.raises(TrainerError, match=rf"^tune\.metric: '{metric}' is not logged by the module; it logs loss"):
            fit_of_trial()
    else:
        fit_of_trial()
        assert [value is not None for value in values] == logged


@pytest.mark.parametrize("when", ["payload", "manifest"])
def test_a_worker_whose_fit_was_started_again_commits_and_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The driver took it for lost. It deleted the commit that the new worker had just chosen to begin from."""
    fit_folder = FitFolder(open_store(str(tmp_path)))
    put_file, put = FolderStore.put_file, FolderStore.put

    def start_again(key: str) -> None:
        if len(fit_folder.checkpoints.list_folders()) == 2:
            FitFolder(open_store(str(tmp_path))).take_attempt(after=0)

    def slow_payload(self: FolderStore, key: str, path: Any) -> None:
        put_file(self, key, path)
        start_again(key)

    def slow_manifest(self: FolderStore, key: str, data: bytes, **condition: Any) -> None:
        put(self, key, data, **condition)
        if key == "manifest.json":
            start_again(key)

    monkeypatch.setattr(FolderStore, "put_file", slow_payload if when == "payload" else put_file)
    monkeypatch.setattr(FolderStore, "put", slow_manifest if when == "manifest" else put)
    with pytest.raises(LeaseLostError, match="started this fit again, as attempt 2"):
        worker.fit(
            CASES["no validation"].config,
            fit_folder,
            policy=Policy(keep=1),
            report=lambda said: None,
            trainer_kwargs={"devices": 1, "accelerator": "cpu"},
        )
    commits = [commit.manifest.epochs for commit in list_commits(fit_folder.checkpoints)]
    assert commits == ([1] if when == "payload" else [1, 2])


def test_the_newest_commit_is_looked_for_again_if_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the look the former worker committed, and deleted what it had listed."""
    fitted = fit(replace(CASES["no validation"], keep=1), tmp_path / "run")
    checkpoints = fitted.fit_folder.checkpoints
    listings = iter([["a0001-e000001-s000000003"]])
    monkeypatch.setattr(FolderStore, "list_folders", lambda self: next(listings, ["a0001-e000003-s000000009"]))
    newest = download_newest(checkpoints, tmp_path / "to")
    assert newest is not None and newest[0].manifest.epochs == 3
