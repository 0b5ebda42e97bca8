"""The shipped examples: each run file loads and means what its document says, and each module learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from tests.unit.example_fits import FOLDER, quiet_trainer
from tests.unit.idx_files import FASHION, NO_FASHION, TEST, TRAIN, write_set
from trainer_app import lightning_cli
from trainer_app.config import RunConfig, dump, load, loads
from trainer_app.errors import ConfigError
from trainer_app.examples.data.digits import CHECKSUM
from trainer_app.examples.fashion_mnist import FashionMNISTDataModule, ImageClassifier
from trainer_app.examples.mnist import MNISTClassifier, MNISTDataModule

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("small_machine")]
RUN_FILES = sorted(FOLDER.glob("*/*.yaml"))


def run_file(name: str) -> RunConfig:
    return load([FOLDER / name])


def test_every_example_has_both_run_files() -> None:
    found = {path.parent.name: sorted(p.name for p in path.parent.glob("*.yaml")) for path in RUN_FILES}
    assert found == {
        name: ["train.yaml", "tune.yaml"] for name in ("fashion_mnist", "image_folder", "mnist", "text_classifier")
    }


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_run_file_can_be_run(path: Path) -> None:
    config = load([path])
    assert config.notes == () and (config.tune is not None) == (path.name == "tune.yaml")
    assert loads(dump(config)) == config
    lightning_cli.check_code(config)


def test_the_mnist_sweep_is_the_documents() -> None:
    tune = run_file("mnist/tune.yaml").tune
    assert tune is not None and (tune.metric, tune.mode, tune.num_samples) == ("val_accuracy", "max", 10)
    space = {key: (value.kind, list(value.args.values())) for key, value in tune.space.items()}
    assert space == {
        "model.init_args.layer_1": ("choice", [[32, 64, 128]]),
        "model.init_args.layer_2": ("choice", [[64, 128, 256]]),
        "model.init_args.lr": ("loguniform", [1e-4, 1e-1]),
        "data.init_args.batch_size": ("choice", [[32, 64]]),
    }
    assert tune.scheduler.kind == "asha"
    assert {"max_t": 5, "grace_period": 1, "reduction_factor": 2}.items() <= dict(tune.scheduler.args).items()


def test_a_wrong_argument_of_an_example_is_named() -> None:
    with pytest.raises(ConfigError, match=r"layer_3"):
        lightning_cli.check_code(load([FOLDER / "mnist/train.yaml"], ["model.init_args.layer_3=5"]))


def test_an_optimizer_block_replaces_adam() -> None:
    block = "optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.5}}"
    config = load([FOLDER / "mnist/train.yaml"], [block, "data.init_args.source=digits"])
    parts = lightning_cli.build_parts(config, trainer_kwargs={"accelerator": "cpu", "logger": False})
    made: Any = parts.model.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    optimizer = optimizer[0][0] if isinstance(optimizer, tuple) else optimizer
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["lr"] == 0.5
    assert isinstance(MNISTClassifier(lr=0.3).configure_optimizers(), torch.optim.Adam)


def digits(**init_args: Any) -> MNISTDataModule:
    data = MNISTDataModule(**MNISTDataModule.resolve_init_args({"source": "digits", **init_args}))
    data.setup()
    return data


def rows(data: Any) -> tuple[set[int], set[int]]:
    return set(data.train.rows.tolist()), set(data.val.rows.tolist())


@pytest.mark.parametrize("module", [MNISTDataModule, FashionMNISTDataModule])
def test_splits_are_disjoint_and_the_same_on_every_rank_and_trial(module: Any, tmp_path: Path) -> None:
    args = module.resolve_init_args({"source": str(write_set(tmp_path / "d"))})
    found = []
    for seed in (1, 2):
        pl.seed_everything(seed)
        data = module(**args)
        data.setup("fit")
        found.append(rows(data))
        assert len(data.test) == TEST
    train, val = found[0]
    assert found[0] == found[1] and not train & val and train | val == set(range(TRAIN))
    other = module(**args, split_seed=5)
    other.setup()
    assert rows(other)[1] != val


def test_digits_are_split_before_they_are_moved() -> None:
    data, plain = digits(), digits(shift=0)
    assert [len(part) for part in (data.train, data.val, data.test)] == [5 * 1437, 180, 180]
    train, val = rows(plain)
    assert len(train) == 1437 and not train & val
    seen = {image.numpy().tobytes() for image in data.train.tensors[0]}
    images = data.val.tensors[0][data.val.rows]
    assert not seen & {image.numpy().tobytes() for image in images}
    assert not seen & {image.numpy().tobytes() for image in data.test.tensors[0]}
    assert torch.equal(data.train.tensors[1][:1437], plain.train.tensors[1][plain.train.rows])


def test_batches_have_the_documents_shape_and_scale() -> None:
    data = digits(batch_size=32)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (32, 1, 28, 28) and x.dtype == torch.float32 and y.shape == (32,) and y.dtype == torch.int64
    whole = digits(shift=0).train.__getitems__(range(1437))[0]
    assert abs(float(whole.mean())) < 0.01 and abs(float(whole.std()) - 1) < 0.01


def test_the_source_is_settled_once() -> None:
    args = MNISTDataModule.resolve_init_args({"source": "digits", "batch_size": 32})
    assert args == {"source": "digits", "batch_size": 32, "checksum": CHECKSUM}
    assert MNISTDataModule.resolve_init_args(args) == args


LOGGED = {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}


def test_the_mlp_learns_digits_and_logs_the_truth(tmp_path: Path) -> None:
    pl.seed_everything(1)
    model, data = MNISTClassifier(), digits()
    run = quiet_trainer(max_epochs=5)
    run.fit(model, datamodule=data)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert set(logged) == LOGGED
    assert logged["val_accuracy"] >= 0.95
    x, y = data.val.__getitems__(range(len(data.val)))
    scores = model.eval()(x).detach()
    assert logged["val_accuracy"] == pytest.approx(float((scores.argmax(1) == y).float().mean()))
    assert logged["val_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(scores, y)), rel=1e-4)
    assert torch.allclose(scores.exp().sum(1), torch.ones(len(y)), atol=1e-5)
    run.save_checkpoint(tmp_path / "model.ckpt")
    again = MNISTClassifier.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert torch.equal(again(x), scores)
    (tested,) = quiet_trainer().test(again, datamodule=data, verbose=False)
    assert set(tested) == {"test_loss", "test_accuracy"} and tested["test_accuracy"] >= 0.9


def test_the_mlp_learns_the_real_fashion_mnist() -> None:
    if not FASHION.is_dir():
        pytest.skip(NO_FASHION)
    pl.seed_everything(1)
    data = MNISTDataModule(**MNISTDataModule.resolve_init_args({"source": str(FASHION)}))
    run = quiet_trainer(max_epochs=1, limit_train_batches=200)
    run.fit(MNISTClassifier(), datamodule=data)
    assert [len(data.train), len(data.val), len(data.test)] == [55_000, 5_000, 10_000]
    assert float(run.callback_metrics["val_accuracy"]) >= 0.8


def test_resnet_18_takes_one_channel_and_trains(tmp_path: Path) -> None:
    source = str(write_set(tmp_path / "d"))
    data = FashionMNISTDataModule(**FashionMNISTDataModule.resolve_init_args({"source": source}))
    model = ImageClassifier(lr=0.01)
    assert model.model.conv1.weight.shape == (64, 1, 7, 7) and model.model.conv1.bias is None
    assert model.model.layer4[1].conv2.weight.shape == (512, 512, 3, 3) and model.model.fc.out_features == 10
    assert data.batch_size == 128 and model.configure_optimizers().param_groups[0]["lr"] == 0.01
    run = quiet_trainer(max_epochs=1)
    run.fit(model, datamodule=data)
    assert set(run.callback_metrics) == {"loss", "val_loss", "val_accuracy"}
    (tested,) = run.test(model, datamodule=data, verbose=False)
    assert set(tested) == {"test_loss", "test_accuracy"}


def test_fashion_mnist_has_its_guides_scale(tmp_path: Path) -> None:
    data = FashionMNISTDataModule(source=str(write_set(tmp_path / "d")))
    data.setup()
    pixel: Tensor = data.test.tensors[0][3, 4, 5]
    assert data.test[3][0][0, 4, 5].item() == pytest.approx((pixel.item() / 255 - 0.28604) / 0.32025, rel=1e-5)
