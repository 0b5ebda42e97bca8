"""`rehearsal.rehearse`: what a run would end with, found with one batch, and nothing left behind. No Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer_app.cli import submit
from trainer_app.errors import ConfigError, TrainerError
from trainer_app.rehearsal import Rehearsal, rehearse

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

CODE = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

class Data(L.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.batch_size = batch_size
    def loader(self):
        x = torch.arange(64.0).reshape(16, 4)
        return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=self.batch_size)
    def train_dataloader(self): return self.loader()
    def val_dataloader(self): return self.loader()
    def test_dataloader(self): return self.loader()

class Net(L.LightningModule):
    def __init__(self, lr: float = 1e-4):
        super().__init__()
        self.lr, self.net = lr, torch.nn.Linear(4, 1)
    def step(self, name, batch):
        loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log(name, loss)
        return loss
    def training_step(self, batch, index): return self.step("loss", batch)
    def validation_step(self, batch, index): self.step("val_loss", batch)
    def test_step(self, batch, index): self.step("test_loss", batch)
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=self.lr)
"""
RUN = """
model: {class_path: parts.Net}
data: {class_path: parts.Data}
trainer: {max_epochs: 3}
seed_everything: 1
"""
Try = Callable[..., Rehearsal]


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Rehearse RUN with more YAML and overrides, on CODE with more code. Folder and process stay as they are."""
    monkeypatch.chdir(tmp_path)

    def run(code: str = "", yaml: str = "", *overrides: str, **options: Any) -> Rehearsal:
        (tmp_path / "parts.py").write_text(CODE + code)
        (tmp_path / "run.yaml").write_text(RUN + yaml)
        before, path = tree(tmp_path), list(sys.path)
        try:
            return rehearse(["run.yaml"], overrides, **options)
        finally:
            assert tree(tmp_path) == before
            assert (Path.cwd(), sys.path, "parts" in sys.modules) == (tmp_path, path, False)
            assert not torch.distributed.is_initialized()

    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def net(method: str, *lines: str) -> str:
    """Net with a method that is these lines."""
    body = "".join(f"        {line}\n" for line in lines)
    return f"\nBase = Net\nclass Net(Base):\n    def {method}:\n{body}"


def callback(method: str, *lines: str) -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return f"\nclass Mine(L.Callback):\n    def {method}:\n{body}"


MINE = "trainer.callbacks=[{class_path: parts.Mine}]"


def test_all_of_a_run_is_done(attempt: Try) -> None:
    done = attempt()
    assert done.done == ["trained", "validated", "a checkpoint saved, loaded and restored", "tested"]
    assert (done.logged, done.params, done.notes) == (["loss", "val_loss"], {}, [])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (net("__init__(self, lr: float = 1.0)", "raise ValueError('init')"), "ValueError: init (parts.py:"),
        (net("training_step(self, batch, index)", "raise KeyError('step')"), "KeyError: 'step' (parts.py:"),
        (net("validation_step(self, batch, index)", "raise OSError('val')"), "OSError: val (parts.py:"),
        (net("test_step(self, batch, index)", "raise TypeError('test')"), "TypeError: test (parts.py:"),
        (net("configure_optimizers(self)", "raise RuntimeError('opt')"), "RuntimeError: opt (parts.py:"),
        (net("on_train_epoch_end(self)", "raise RuntimeError('end')"), "RuntimeError: end (parts.py:"),
        (net("on_save_checkpoint(self, c)", "c['x'] = lambda: 1"), "can't be saved: Can't "),
        (net("on_load_checkpoint(self, c)", "c['epoch'] + 'a'"), "TypeError: unsupported operand"),
        (net("training_step(self, batch, index)", "import sys; sys.exit(3)"), "the user's code called sys.exit(3)"),
        (
            net("on_save_checkpoint(self, c)", "c['x'] = [L.Callback, torch.nn.Tanh]"),
            "checkpoint.allow: [lightning.pytorch.callbacks.callback.Callback, torch.nn.modules.activation.Tanh]",
        ),
    ],
)
def test_what_the_code_raises(code: str, says: str, attempt: Try) -> None:
    with pytest.raises(TrainerError) as raised:
        attempt(code)
    assert says in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("code", "key"),
    [("raise ImportError('no')\n", "model.class_path"), ("\nimport not_installed\n", "model.class_path")],
)
def test_code_that_can_not_be_imported(code: str, key: str, attempt: Try) -> None:
    with pytest.raises(ConfigError) as raised:
        attempt(code)
    assert f"run.yaml:2: {key}: importing parts raised" in str(raised.value) and raised.value.exit_code == 2


def test_ctrl_c_is_no_error_of_the_code(attempt: Try) -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt(net("training_step(self, batch, index)", "raise KeyboardInterrupt"))


def test_wrong_arguments(attempt: Try) -> None:
    with pytest.raises(ConfigError, match=r"model.init_args.rate: unknown argument of Net"):
        attempt("", "", "model.init_args.rate=1")


@pytest.mark.parametrize("hook", ["on_train_start", "on_validation_end", "on_train_end", "on_fit_end"])
def test_a_callback_that_raises(hook: str, attempt: Try) -> None:
    with pytest.raises(TrainerError, match="RuntimeError: mine"):
        attempt(callback(f"{hook}(self, trainer, module)", "raise RuntimeError('mine')"), "", MINE)


def test_the_state_of_a_callback(attempt: Try) -> None:
    code = callback("state_dict(self)", "return {'kept': L.Callback}")
    with pytest.raises(TrainerError, match=r"allow: \[lightning.pytorch.callbacks.callback.Callback\]"):
        attempt(code, "", MINE)
    attempt(code, "checkpoint: {allow: [lightning.pytorch.callbacks.callback.Callback]}", MINE)


def test_a_metric_that_is_not_logged(attempt: Try) -> None:
    with pytest.raises(TrainerError, match=r"checkpoint.monitor: 'acc' is not logged .*; it logs loss, val_loss"):
        attempt("", "checkpoint: {monitor: acc, mode: max}")


def test_a_sweep(attempt: Try) -> None:
    space = "space: {model.init_args.lr: {choice: [0.25]}, data.init_args.batch_size: {grid_search: [2, 3]}}"
    done = attempt("", f"tune: {{metric: val_loss, mode: min, {space}}}")
    assert done.params == {"model.init_args.lr": 0.25, "data.init_args.batch_size": 2}
    with pytest.raises(TrainerError, match=r"tune.metric: 'acc' is not logged"):
        attempt("", f"tune: {{metric: acc, mode: min, {space}}}")
    assert attempt("", f"tune: {{metric: val_loss, mode: min, {space}}}", task="train").params == {}


@pytest.mark.full
def test_what_counts_steps_counts_the_run_s(attempt: Try) -> None:
    code = net(
        "configure_optimizers(self)",
        "assert self.trainer.estimated_stepping_batches == 12 and self.trainer.max_epochs == 3",
        "one = super().configure_optimizers()",
        "return [one], [torch.optim.lr_scheduler.OneCycleLR(one, 0.1, total_steps=12)]",
    )
    attempt(code, "", "trainer.accumulate_grad_batches=1")
    for limits in (
        ["trainer.check_val_every_n_epoch=3", "trainer.val_check_interval=4", "trainer.min_epochs=2"],
        ["trainer.val_check_interval=00:00:10:00", "trainer.min_steps=5", "trainer.accumulate_grad_batches=3"],
        ["trainer.max_steps=7", "trainer.reload_dataloaders_every_n_epochs=1", "trainer.limit_train_batches=0.5"],
    ):
        assert attempt("", "", *limits).done[:2] == ["trained", "validated"]
    attempt("", "", "trainer.callbacks=[{class_path: lightning.pytorch.callbacks.StochasticWeightAveraging, "
            "init_args: {swa_lrs: 0.1, swa_epoch_start: 2}}]")  # fmt: skip


def test_what_takes_long_is_left_out(attempt: Try) -> None:
    finders = [
        f"{{class_path: lightning.pytorch.callbacks.{name}}}" for name in ("LearningRateFinder", "BatchSizeFinder")
    ]
    done = attempt("", "", f"trainer.callbacks=[{', '.join(finders)}]", "trainer.enable_checkpointing=true")
    assert [note.split()[0] for note in done.notes] == ["LearningRateFinder", "BatchSizeFinder"]


@pytest.mark.parametrize("change", ["fast_dev_run=true", "num_sanity_val_steps=0"])
def test_a_profiler_is_no_obstacle_to_a_restore(change: str, attempt: Try) -> None:
    """PyTorch's fails in a fit that ends before it has measured anything."""
    done = attempt("", "", f"trainer.{change}", "trainer.profiler=pytorch")
    assert "a checkpoint saved, loaded and restored" in done.done


def test_what_is_written_stays_nowhere(attempt: Try, tmp_path: Path) -> None:
    """Relative paths are read and written in a copy; Lightning's own absolute ones are redirected."""
    (tmp_path / "in.txt").write_text("here")
    (tmp_path / "logs").mkdir()
    code = callback(
        "on_train_start(self, trainer, module)",
        "assert open('in.txt').read() == 'here'",
        "open('in.txt', 'w').write('changed')",
        "open('logs/new.txt', 'w').write('new')",
    )
    logger = "trainer.logger={class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: %s}}"
    checkpoint = "{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {dirpath: %s}}"
    profiler = "trainer.profiler={class_path: SimpleProfiler, init_args: {dirpath: %s, filename: a}}"
    for folder in ("logs", tmp_path / "logs"):
        mine = f"trainer.callbacks=[{{class_path: parts.Mine}}, {checkpoint % folder}]"
        attempt(code, "", mine, logger % folder, profiler % folder)
    attempt("", "", f"trainer.default_root_dir={tmp_path}", "trainer.logger=true")


@pytest.mark.full
def test_what_a_process_can_do_once(attempt: Try) -> None:
    once = ["super().__init__()", "import multiprocessing, os", "multiprocessing.set_start_method('spawn')"]
    leaves = ["assert os.environ.setdefault('SEEN', str(id(self))) == str(id(self))", "os.chdir('/')"]
    assert attempt(net("__init__(self, lr: float = 1.0)", *once, *leaves)).done[-1] == "tested"


@pytest.mark.full
def test_a_module_that_asks_for_its_rank(attempt: Try) -> None:
    """A worker has a process group; a trial in the process of its Tune trial has none."""
    code = net("on_train_start(self)", "assert torch.distributed.get_world_size() == 1")
    for workers in (1, 2):
        assert attempt(code, "", f"scaling.num_workers={workers}").done[0] == "trained"
    space = "tune: {metric: loss, mode: min, space: {model.init_args.lr: {choice: [0.1]}}}"
    assert attempt(code, space, "scaling.num_workers=2").done[0] == "trained"
    with pytest.raises(TrainerError, match="Default process group has not been initialized"):
        attempt(code, space)


def test_without_a_test(attempt: Try) -> None:
    assert attempt("\ndel Data.test_dataloader\n").done[-1] == "a checkpoint saved, loaded and restored"


@pytest.mark.full
def test_a_folder_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `code` that folder is the working folder, as in a pod, and it alone has the modules."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "parts.py").write_text(CODE)
    with pytest.raises(ConfigError, match=r"no module named 'parts'"):
        rehearse(["run.yaml"], code="src")
    (tmp_path / "src" / "parts.py").write_text(CODE + net("on_fit_start(self)", "open('in.txt').read()"))
    (tmp_path / "src" / "in.txt").write_text("here")
    assert rehearse(["run.yaml"], code="src").done[-1] == "tested"


@pytest.mark.full
def test_another_machine_s_checkpoint_is_left_out(attempt: Try) -> None:
    with pytest.raises(ConfigError, match=r"ckpt_path: there is no such file"):
        attempt("", "ckpt_path: /data/start.ckpt")
    notes = attempt("", "ckpt_path: /data/start.ckpt", remote=True).notes
    assert notes == ["ckpt_path is left out: /data/start.ckpt is not on this machine"]


def test_submit_stops_before_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error and the exit code are the run's; --env reaches the code; without an error the cluster is next."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "parts.py").write_text(CODE + net("on_fit_start(self)", "import os; os.environ['NEEDED']"))
    monkeypatch.setattr("trainer_app.cli.submit.notify", lambda line: None)
    monkeypatch.setattr("trainer_app.launch.kube.connect", lambda *_: pytest.fail("it asked the cluster"))
    with pytest.raises(TrainerError, match=r"KeyError: 'NEEDED' \(parts.py") as raised:
        submit.submit("train", ["run.yaml"], rehearse=True)
    assert raised.value.exit_code == 1
    with pytest.raises(ConfigError, match=r"tune: is missing"):
        submit.submit("tune", ["run.yaml"], rehearse=True)
    with pytest.raises(pytest.fail.Exception, match="it asked the cluster"):
        submit.submit("train", ["run.yaml"], rehearse=True, env=["NEEDED=1"])
