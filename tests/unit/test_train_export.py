"""A run's module as a file for other programs, and its checkpoint with Lightning alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import onnxruntime
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.trained import trained_run
from trainer_app.__main__ import main
from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import InputError, NotFoundError, TrainerError, UserError
from trainer_app.records import TrialRecord
from trainer_app.run import require
from trainer_app.storage import Store
from trainer_app.training import chosen, tensor_file
from trainer_app.training import export as exporting

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]

HERE = "tests.unit.test_train_export"
SAMPLES = torch.arange(12.0).reshape(4, 3)


class Samples(L.LightningDataModule):
    def setup(self, stage: str) -> None:
        self.samples = SAMPLES

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(SAMPLES, SAMPLES.sum(1)), batch_size=2)

    def predict_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.samples, self.samples.sum(1)), batch_size=2)


class Net(L.LightningModule):
    """A layer whose weights grow by one in each of the two steps of an epoch; in training it drops all."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, width)
        torch.nn.init.constant_(self.layer.weight, 0.0)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.drop = torch.nn.Dropout(1.0)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.drop(self.layer(x)), "twice": x * 2}

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.log("grown", self.layer.weight.sum().item(), on_epoch=True, on_step=False)
        return -self.layer.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class ByName(Net):
    """Takes two inputs by name, of an `example_input_array`."""

    def __init__(self) -> None:
        super().__init__()
        self.example_input_array = {"x": torch.ones(1, 3), "scale": torch.full((1,), 2.0)}

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.layer(x) * scale.unsqueeze(1)


class OneSize(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(2, 3))


class Untraceable(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum().item() > 0 else x


class Random(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.rand(())


class Splits(Net):
    """Has no ONNX function for what it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x.unsqueeze(1) * x.unsqueeze(2)).abs()


class Named(Net):
    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x), "name"


class Diverged(Net):
    """Its state has NaN, and a list of tensors as torchmetrics and `get_extra_state` have them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([float("nan"), 1.0]))

    def get_extra_state(self) -> Any:
        return {"seen": [torch.ones(3)], "count": 1}

    def set_extra_state(self, state: Any) -> None: ...


class Anything(Net):
    """Takes all of a mapping, as modules of Hugging Face are wrapped."""

    def forward(self, **batch: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.layer(batch["x"]) + batch["y"].unsqueeze(1)


class Mappings(Samples):
    def train_dataloader(self) -> Any:
        return DataLoader([{"x": SAMPLES[0], "y": SAMPLES[0, 0]}] * 4, batch_size=2)

    predict_dataloader = train_dataloader


class Lazy(Net):
    """Builds its layers in `configure_model`."""

    def __init__(self) -> None:
        super().__init__()
        del self.layer

    def configure_model(self) -> None:
        if not hasattr(self, "layer"):
            self.layer = torch.nn.Linear(3, 2)


class Meshed(Net):
    """Shards itself over a device mesh, once it is trained."""

    def configure_model(self) -> None:
        if Path("trained").exists():
            assert self.device_mesh is not None, "no mesh"


class NoForward(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def run_file(model: str = "Net", data: str = "Samples") -> RunConfig:
    path = model if "." in model else f"{HERE}.{model}"
    return loads(
        f"model: {{class_path: {path}}}\ndata: {{class_path: {HERE}.{data}}}\nseed_everything: 1\n"
        "trainer: {max_epochs: 2, logger: false}\nscaling: {use_gpu: false}\ncheckpoint: {keep: null}\n"
    )


def export(store: Store, kind: str = "pt2", name: str = "net.pt2", **which: Any) -> dict[str, Any]:
    return exporting.export(store, "r", name, kind=kind, **which)


# Imports nothing of this program.
ELSEWHERE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("trainer_app", "tests", "ray"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import torch
from plain_net import Net
program = torch.export.load("net.pt2").module()
net = Net.load_from_checkpoint(sys.argv[1])
assert type(net).__mro__[1].__module__.startswith("lightning."), type(net)
net.eval()
for rows in (1, 2, 5):
    x = torch.rand(rows, 3)
    expected, got = net(x), program(x)
    assert expected.keys() == got.keys() and all(torch.allclose(expected[key], got[key]) for key in expected)
assert torch.equal(torch.load("net.pt", weights_only=True)["layer.weight"], net.layer.weight)
assert not [name for name in sys.modules if name.startswith("trainer_app")]
print(net.hparams.width, net.layer.weight.sum().item())
"""
PLAIN = """
import lightning as L
import torch
class Net(L.LightningModule):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, width)
        torch.nn.init.constant_(self.layer.weight, 0.0)
    def forward(self, x):
        return {"out": self.layer(x), "twice": x * 2}
    def training_step(self, batch, index):
        return -self.layer.weight.sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)
"""


def test_program_and_checkpoint_are_used_without_this_program(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program takes any batch, and the checkpoint is one that `load_from_checkpoint` reads."""
    Path("plain_net.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    trained_run(store, run_file("plain_net.Net"))
    event = export(store)
    assert event["inputs"] == "float32[any, 3]" and event["format"] == "pt2"
    export(store, "state-dict", "net.pt")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", ELSEWHERE, f"{event['checkpoint']}/checkpoint.ckpt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "24.0"]
    assert sorted(path.name for path in Path.cwd().glob("*.*")) == ["net.pt", "net.pt2", "plain_net.py"]


def test_example_input_of_the_module_is_taken_by_name(store: Store) -> None:
    trained_run(store, run_file("ByName"))
    assert export(store)["inputs"] == "float32[any, 3], float32[any]"
    program = torch.export.load("net.pt2").module()
    assert program(x=torch.ones(3, 3), scale=torch.ones(3)).shape == (3, 2)


@pytest.mark.parametrize("model, inputs", [("Net", "float32[any, 3]"), ("ByName", "float32[any, 3], float32[any]")])
def test_onnx_runtime_computes_what_the_module_does(store: Store, model: str, inputs: str) -> None:
    """In one file, for any batch."""
    trained_run(store, run_file(model))
    assert export(store, "onnx", "net.onnx")["inputs"] == inputs
    session = onnxruntime.InferenceSession("net.onnx")
    values = (torch.ones(7, 3), torch.full((7,), 0.5))
    feeds = {one.name: value.numpy() for one, value in zip(session.get_inputs(), values, strict=False)}
    assert next(iter(session.run(None, feeds))).shape == (7, 2)


@pytest.mark.parametrize("model, inputs", [("OneSize", "float32[2, 3]"), ("Lazy", "float32[any, 3]")])
def test_what_an_export_takes_is_said(store: Store, model: str, inputs: str) -> None:
    trained_run(store, run_file(model))
    assert export(store)["inputs"] == inputs


def test_all_of_a_mapping_is_taken_by_name(store: Store) -> None:
    trained_run(store, run_file("Anything", "Mappings"))
    assert export(store)["inputs"] == "float32[2, 3], float32[2]"  # torch's programs check **kwargs for one size only


def test_a_state_with_nan_and_with_lists_is_kept(store: Store) -> None:
    trained_run(store, run_file("Diverged"))
    export(store, "state-dict", "net.pt")
    kept = torch.load("net.pt", weights_only=True)
    assert kept["mean"].isnan().tolist() == [True, False] and kept["_extra_state"]["seen"][0].tolist() == [1.0] * 3
    assert not exporting._same(torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 2.0]))
    assert not exporting._same([torch.ones(2)], [torch.zeros(2)])


@pytest.mark.parametrize(
    "model, kind, said",
    [
        ("Splits", "onnx", "onnx can't have this module: No ONNX function found for .*linalg_eig"),
        ("Named", "onnx", "forward returns str; onnx has tensors, and tuples, lists and mappings of them"),
        ("Named", "pt2", "forward returns str; pt2 has tensors"),
    ],
)
def test_what_a_format_does_not_have_is_said(store: Store, model: str, kind: str, said: str) -> None:
    trained_run(store, run_file(model))
    with pytest.raises(TrainerError, match=said) as refused:
        export(store, kind)
    assert "\n" not in str(refused.value) and not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "model, said, error",
    [
        ("Untraceable", "torch.export can't trace this module: ", TrainerError),
        ("Random", "the module's outputs differ between two calls", TrainerError),
        ("NoForward", "NoForward has no forward: give the module an example_input_array", InputError),
    ],
)
def test_what_can_not_be_exported_is_said_and_leaves_the_file(
    store: Store, model: str, said: str, error: type[TrainerError]
) -> None:
    trained_run(store, run_file(model))
    Path("net.pt2").write_text("the former one")
    with pytest.raises(error, match=said) as refused:
        export(store)
    assert "\n" not in str(refused.value)
    assert Path("net.pt2").read_text() == "the former one" and len(list(Path.cwd().iterdir())) == 1


def test_a_module_that_needs_a_device_mesh_is_told_how_to_do_without(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_run(store, run_file("Meshed"))
    Path("trained").touch()
    with pytest.raises(UserError, match=r"^AssertionError: no mesh"):
        export(store)
    monkeypatch.setattr(chosen, "one_process_strategy", lambda config: "a strategy with a mesh")
    with pytest.raises(
        InputError, match=r"shard nothing if self\.device_mesh is None; it raised AssertionError: no mesh"
    ):
        export(store)


def test_a_program_that_computes_something_else_is_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_run(store, run_file())
    trace = exporting._export_programs

    def other(model: Any, *inputs: Any) -> Any:
        program = next(trace(model, *inputs))
        program.state_dict["layer.bias"].data.add_(0.01)
        yield program

    monkeypatch.setattr(exporting, "_export_programs", other)
    with pytest.raises(TrainerError, match="outputs differ from the module's; no file was written"):
        export(store)
    assert not list(Path.cwd().iterdir())


def test_safetensors_hold_each_tensor(store: Store) -> None:
    trained_run(store, run_file())
    event = export(store, "safetensors", "net.safetensors")
    data = Path("net.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and header.pop("__metadata__")["run"] == "r"
    assert {name: (at["dtype"], at["shape"]) for name, at in header.items()} == {
        "layer.weight": ("F32", [2, 3]),
        "layer.bias": ("F32", [2]),
        "calls": ("I64", []),
    }
    ends = sorted(at["data_offsets"] for at in header.values())
    assert [end for _, end in ends][-1] == len(data) - 8 - length  # no gap, nothing after them
    saved = torch.load(f"{event['checkpoint']}/checkpoint.ckpt", weights_only=True)["state_dict"]
    kept = tensor_file.read(Path("net.safetensors"))
    assert kept.keys() == saved.keys() and all(torch.equal(kept[name], saved[name]) for name in saved)


def test_types_of_safetensors_are_kept_and_others_refused(tmp_path: Path) -> None:
    tensors = {str(dtype): torch.ones(2, 0 if dtype is torch.int8 else 3).to(dtype) for dtype in tensor_file.DTYPES}
    tensor_file.write(tensors, tmp_path / "t", {})
    kept = tensor_file.read(tmp_path / "t")
    assert all(kept[name].dtype == one.dtype and kept[name].shape == one.shape for name, one in tensors.items())
    assert all(torch.equal(kept[name].float(), one.float()) for name, one in tensors.items())
    with pytest.raises(TrainerError, match=r"safetensors: c is torch\.complex64.*use state-dict"):
        tensor_file.write({"c": torch.zeros(1, dtype=torch.complex64)}, tmp_path / "t", {})


def test_an_epoch_or_a_trial_is_chosen(store: Store) -> None:
    trained_run(store, run_file(), metric="grown", mode="max")
    assert export(store, "safetensors", "a", epoch=1)["checkpoint"].endswith("e000001-s000000002")
    with pytest.raises(NotFoundError, match="no committed checkpoint of epoch 7: there are those of epoch 1, 2"):
        export(store, epoch=7)
    with pytest.raises(NotFoundError, match="run r has no trial t00001: it has no trials"):
        export(store, trial="t00001")


def test_a_trial_of_a_sweep_is_chosen_with_its_parameters(store: Store) -> None:
    space = "tune: {metric: grown, mode: max, space: {model.init_args.width: {choice: [2, 3]}}}\n"
    for index, width in enumerate((3, 2)):
        config = override(run_file(), {"model.init_args": {"width": width}})
        folder = trained_run(store, config, trial=f"t{index:05d}", metric="grown", mode="max")
        params = {"model.init_args.width": width}
        folder.write_trial(TrialRecord(trial=f"t{index:05d}", index=index, params=params, state="finished"))
    folder.run_store.put("run.yaml", (dump(run_file()) + space).encode())
    export(store, "safetensors", "best")
    export(store, "safetensors", "second", trial="t00001", epoch=2)
    assert tensor_file.read(Path("best"))["layer.bias"].shape == (3,)
    assert tensor_file.read(Path("second"))["layer.bias"].shape == (2,)
    with pytest.raises(InputError, match="--epoch goes with --trial: run r is a sweep"):
        export(store, epoch=1)


def test_the_verb_says_what_it_wrote(
    store: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_run(store, run_file())
    assert main(["export", f"{store.uri}/r", "--format", "state-dict", "-o", "sub/net.pt", "--json", "--log", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["file"] == "sub/net.pt" and Path("sub/net.pt").exists()
    assert main(["export", f"{store.uri}/r", "--log", "-"]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[:2] == ["pt2: r.pt2", "inputs: float32[any, 3]"] and Path("r.pt2").exists()
    monkeypatch.setattr(require, "is_installed", lambda module: "onnx" not in module)
    assert main(["export", f"{store.uri}/r", "--format", "onnx", "--log", "-"]) == 2
    assert "--format onnx needs onnx, onnxscript, onnxruntime, not installed here: " in capfd.readouterr().err
