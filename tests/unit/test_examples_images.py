"""The example of an image folder: the document's module, what it reads and refuses, and the weights it starts from."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch._utils import ExceptionWrapper
from torchmetrics.functional.classification import multiclass_f1_score
from torchvision import transforms

from tests.two_ranks import fit_rank, on_two_ranks
from tests.unit.example_fits import FOLDER, quiet_trainer
from trainer_app import rehearsal
from trainer_app.config import load
from trainer_app.examples.data import download
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.image_folder import ImageClassifier, ImageDataModule
from trainer_app.examples.image_folder.data import find_images
from trainer_app.examples.image_folder.weights import load_backbone, make_backbone
from trainer_app.run import prepare
from trainer_app.user_errors import describe_error

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("small_machine")]
NO_WORKERS = {"num_workers": 0, "size": 40, "batch_size": 4}


def draw_images(folder: Path, *, classes: tuple[str, ...] = ("ant", "bee"), each: int = 5) -> Path:
    """Small images of other sizes, formats and modes; those of a class have its colour."""
    formats = [("png", "RGB"), ("jpg", "L"), ("png", "RGBA"), ("png", "P"), ("bmp", "RGB")]
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            suffix, mode = formats[i % len(formats)]
            pixels = np.full((20 + i, 30, 3), 40 + 150 * number, dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.{suffix}")
    return folder


def set_up(**init_args: Any) -> ImageDataModule:
    data = ImageDataModule(**ImageDataModule.resolve_init_args({**NO_WORKERS, **init_args}))
    data.setup("fit")
    return data


def test_the_module_is_the_documents() -> None:
    model = ImageClassifier(5)
    assert isinstance(model.backbone.classifier, nn.Identity)
    dropout, head = model.classifier
    assert dropout.p == 0.3 and (head.in_features, head.out_features) == (1280, 5)
    assert dict(model.hparams) == {
        "num_classes": 5,
        "lr": 1e-3,
        "weight_decay": 0.01,
        "weights": "none",
        "weights_checksum": None,
    }
    assert (model.val_acc.average, model.val_f1.average) == ("micro", "macro")


def test_the_rate_falls_as_a_cosine_over_the_trainers_epochs() -> None:
    model = ImageClassifier(3, lr=0.5, weight_decay=0.2)
    model._trainer = quiet_trainer(max_epochs=7)
    made = model.configure_optimizers()
    assert isinstance(made["optimizer"], torch.optim.AdamW)
    assert made["optimizer"].defaults["weight_decay"] == 0.2 and made["optimizer"].defaults["lr"] == 0.5
    assert made["lr_scheduler"].T_max == 7
    model._trainer = quiet_trainer(max_epochs=-1, max_steps=3)
    assert isinstance(model.configure_optimizers(), torch.optim.AdamW)


def test_the_splits_have_each_their_own_transform(tmp_path: Path) -> None:
    """The document gives both subsets one data set, so that validation's transform is training's too."""
    data = set_up(data_dir=str(draw_images(tmp_path / "d", each=10)), size=32)
    train, val = (cast(transforms.Compose, split.transform).transforms for split in (data.train, data.val))
    names = [type(step).__name__ for step in train]
    assert names == ["RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "ToTensor", "Normalize"]
    names = [type(step).__name__ for step in val]
    assert names == ["Resize", "CenterCrop", "ToTensor", "Normalize"]
    assert train[2].brightness == (0.8, 1.2)
    assert val[0].size == 36 and val[1].size == (32, 32)
    assert isinstance(train[1], transforms.RandomHorizontalFlip)
    first = [torch.stack([split[i][0] for i in range(len(split))]) for split in (data.train, data.val)]
    again = [torch.stack([split[i][0] for i in range(len(split))]) for split in (data.train, data.val)]
    assert not torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert first[1].shape == (4, 3, 32, 32)


def test_a_fifth_is_for_validation_and_the_same_one_everywhere(tmp_path: Path) -> None:
    folder = str(draw_images(tmp_path / "d", each=10))
    splits = []
    for seed in (1, 2):
        pl.seed_everything(seed)
        data = set_up(data_dir=folder)
        splits.append((data.train.samples, data.val.samples))
    assert splits[0] == splits[1] and [len(split) for split in splits[0]] == [16, 4]
    assert len({file for split in splits[0] for file, _ in split}) == 20
    wanted = torch.randperm(20, generator=torch.Generator().manual_seed(42))[16:].tolist()  # the document's
    every = sorted(sample for split in splits[0] for sample in split)
    assert data.val.samples == [every[i] for i in wanted]
    assert set_up(data_dir=folder, split_seed=1).val.samples != data.val.samples


def test_loaders_keep_their_processes(tmp_path: Path) -> None:
    folder = str(draw_images(tmp_path / "d"))
    data = set_up(data_dir=folder, num_workers=2, batch_size=3)
    loader = data.train_dataloader()
    assert loader.persistent_workers and loader.num_workers == 2 and not loader.pin_memory
    assert not set_up(data_dir=folder).train_dataloader().persistent_workers

    class OnGpu:
        strategy = type("Strategy", (), {"root_device": torch.device("cuda", 0)})

    data.trainer = OnGpu()
    assert data.val_dataloader().pin_memory and data.train_dataloader().pin_memory


def test_every_mode_of_image_becomes_three_channels(tmp_path: Path) -> None:
    data = set_up(data_dir=str(draw_images(tmp_path / "d")))
    assert {tuple(split[i][0].shape) for split in (data.train, data.val) for i in range(len(split))} == {(3, 40, 40)}
    assert data.classes == ["ant", "bee"]


def test_what_is_hidden_is_no_class_and_no_image(tmp_path: Path) -> None:
    """The checksum leaves it out, too."""
    images = draw_images(tmp_path / ".cache/d")
    before = find_images(images)
    for folder in (images / ".ipynb_checkpoints", images / "ant/.ipynb_checkpoints"):
        shutil.copytree(images / "bee", folder)
    assert find_images(images) == before


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no image"}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "text", "gone"])
def test_a_damaged_image_is_named(tmp_path: Path, how: str) -> None:
    data = set_up(data_dir=str(draw_images(tmp_path / "d")))
    file = Path(data.val.samples[0][0])
    spoil(file, how)
    with pytest.raises(DataError) as e:
        list(data.val_dataloader())
    line = describe_error(e.value)
    assert line.startswith(f"{file}: not an image that can be read: ") and line.endswith("; replace or remove it")
    sent = ExceptionWrapper(
        (type(e.value), e.value, e.tb), "in DataLoader worker process 0"
    )  # as a loader's process does
    with pytest.raises(DataError, match="Caught DataError in DataLoader worker process 0") as e:
        sent.reraise()
    assert describe_error(e.value) == line and "\n" not in line


@pytest.mark.parametrize(
    "files, message",
    [
        ((), r"d: holds no subfolder; one subfolder for each class is needed, with its images, and at least two"),
        (("a.png",), "d: holds no subfolder"),
        (("ant/a.png",), "d: holds ant; one subfolder for each class is needed"),
        (("ant/a.png", "bee/notes.txt", "fly/.a.png"), "d: no images in bee, fly; one subfolder for each class"),
        (("train/ant/a.png", "val/ant/a.png"), "d: holds train, val, which are no classes; name the folder of one"),
        (("Training/ant/a.png", "test_set/ant/a.png"), "d: holds Training, test_set, which are no classes"),
        (("ant/a.png", "bee/b.png"), "(ant|bee): too few images, all are for validation; add some"),
    ],
)
def test_what_is_no_image_folder_is_refused_in_a_line(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    (tmp_path / "d").mkdir()
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "png")
    for name in files:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(stream.getvalue())
    with pytest.raises(DataError, match=message) as e:
        set_up(data_dir=str(tmp_path / "d"))
    assert "\n" not in str(e.value)


def test_a_wrong_number_of_classes_is_named(tmp_path: Path) -> None:
    data = set_up(data_dir=str(draw_images(tmp_path / "d")))
    with pytest.raises(DataError, match=r"num_classes is 3, the data has 2 classes \(ant, bee\); set it to 2"):
        quiet_trainer(fast_dev_run=True).fit(ImageClassifier(3), datamodule=data)


def test_a_fit_logs_the_documents_names_and_the_truth(tmp_path: Path) -> None:
    pl.seed_everything(1)
    data = set_up(data_dir=str(draw_images(tmp_path / "d")))
    run = quiet_trainer(max_epochs=1)
    model = ImageClassifier(2)
    run.fit(model, datamodule=data)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert set(logged) == {"train/loss", "train/acc", "val/loss", "val/acc", "val/f1"}
    images, labels = next(iter(data.val_dataloader()))
    predicted = model.eval()(images).argmax(1)
    assert logged["val/f1"] == pytest.approx(float(multiclass_f1_score(predicted, labels, 2, average="macro")))
    run.save_checkpoint(tmp_path / "model.ckpt")
    restored = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt").eval()
    assert torch.equal(restored(images), model(images))


class PredictsRank(ImageClassifier):
    """Takes each image for one of the class of its rank's number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rank = torch.distributed.get_rank()
        return super().forward(x) * 0 + nn.functional.one_hot(torch.full((len(x),), rank), 2)


def fit_two_classes(folder: str) -> list[dict[str, Any]]:
    os.environ["TRAINER_CACHE"] = f"{folder}/cache"
    changes = {
        "model.class_path": f"{__name__}.PredictsRank",
        "model.init_args.num_classes": 2,
        "data.init_args": {**NO_WORKERS, "batch_size": 2, "data_dir": f"{folder}/images"},
        "trainer": {"max_epochs": 1, "limit_train_batches": 1},
    }
    return fit_rank(
        load([FOLDER / "image_folder/train.yaml"], [f"{k}={json.dumps(v)}" for k, v in changes.items()]), folder
    )


def test_accuracy_and_f1_are_those_of_all_workers(tmp_path: Path) -> None:
    data = set_up(data_dir=str(draw_images(tmp_path / "images", each=20)))
    ends = on_two_ranks(fit_two_classes, str(tmp_path))
    assert [how for how, _ in ends] == ["returned", "returned"], ends
    labels = torch.tensor([label for _, label in data.val.samples])
    predicted = torch.arange(8) % 2  # ranks take the samples in turn
    f1 = float(multiclass_f1_score(predicted, labels, 2, average="macro"))
    for _, reports in ends:
        assert reports[-1]["metrics"]["val/f1"] == pytest.approx(f1)
        assert reports[-1]["metrics"]["val/acc"] == pytest.approx(float((predicted == labels).float().mean()))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file as torchvision's, of a backbone with other random weights."""
    torch.manual_seed(5)
    torch.save(make_backbone().state_dict(), tmp_path / "b0.pth")
    return tmp_path / "b0.pth"


def first_filter(model: ImageClassifier) -> torch.Tensor:
    return model.backbone.features[0][0].weight.detach().clone()


def fit_nothing(model: ImageClassifier, data: ImageDataModule, **options: Any) -> pl.Trainer:
    run = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    run.fit(model, datamodule=data, **options)
    return run


def test_a_fit_begins_at_the_weights_once(tmp_path: Path, weights: Path) -> None:
    data = set_up(data_dir=str(draw_images(tmp_path / "d")))
    args = ImageClassifier.resolve_init_args({"num_classes": 2, "lr": 1e-9, "weights": str(weights)})
    assert args["weights"] == str(weights) and args["weights_checksum"].startswith("sha256:")
    wanted = torch.load(weights)["features.0.0.weight"]
    model = ImageClassifier(**args)
    assert not torch.allclose(first_filter(model), wanted)
    run = fit_nothing(model, data)
    assert torch.allclose(first_filter(model), wanted, atol=1e-6)
    run.save_checkpoint(tmp_path / "model.ckpt")
    weights.unlink()  # who has a checkpoint needs the file no more
    restored = ImageClassifier.load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(first_filter(restored), first_filter(model))
    fit_nothing(restored, data)
    fit_nothing(ImageClassifier(**args), data, ckpt_path=tmp_path / "model.ckpt", weights_only=False)


def test_other_weights_than_the_run_began_with_are_refused(weights: Path) -> None:
    args = ImageClassifier.resolve_init_args({"num_classes": 2, "weights": f"file:{weights}"})
    assert ImageClassifier.resolve_init_args(args) == args
    torch.save(make_backbone().state_dict(), weights)
    with pytest.raises(
        DataError, match=r"^weights: .*b0.pth' holds sha256:\w+\.\.\., the run started with sha256:\w+\.\.\."
    ):
        ImageClassifier.resolve_init_args(args)


def test_weights_of_something_else_are_refused_in_a_line(tmp_path: Path, weights: Path) -> None:
    state = torch.load(weights)
    state.pop("features.0.0.weight")
    torch.save({**state, "more": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("weights")
    torch.save([1], tmp_path / "list.pth")
    for name, message in {
        "other.pth": r"not weights of torchvision's efficientnet_b0: features.0.0.weight, more \(2\) do not fit",
        "text.pth": "weights can't be loaded",
        "list.pth": "weights can't be loaded",
        "none.pth": "there is no .*/none.pth on this machine; allowed: torchvision, a folder",
    }.items():
        with pytest.raises(DataError, match=message) as e:
            ImageClassifier.resolve_init_args({"num_classes": 2, "weights": str(tmp_path / name)})
        assert "\n" not in str(e.value)


def test_torchvisions_download_is_made_once_a_node(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WEIGHTS_CHILD", "import sys; sys.exit('no network')")
    with pytest.raises(DataError, match=r"download of EfficientNet_B0_Weights.IMAGENET1K_V1 failed: no network"):
        ImageClassifier.resolve_init_args({"num_classes": 2, "weights": "torchvision"})
    child = f"import shutil, sys; shutil.copy({str(weights)!r}, sys.argv[2])"
    monkeypatch.setattr(download, "WEIGHTS_CHILD", child)
    args = ImageClassifier.resolve_init_args({"num_classes": 2, "weights": "torchvision"})
    monkeypatch.setattr(download, "WEIGHTS_CHILD", "import sys; sys.exit('no network')")
    assert ImageClassifier.resolve_init_args(args) == args
    model = ImageClassifier(**args)
    load_backbone(model.backbone, args["weights"], args["weights_checksum"])
    assert torch.equal(first_filter(model), torch.load(weights)["features.0.0.weight"])


def test_what_was_chosen_is_recorded(weights: Path) -> None:
    config = load([FOLDER / "image_folder/train.yaml"], [f"model.init_args.weights={weights}", "scaling.use_gpu=false"])
    _, chosen = prepare.resolve_choices(config)
    assert set(chosen) >= {"data.init_args.checksum", "model.init_args.weights_checksum"}


@pytest.mark.parametrize("name", ["train.yaml", "tune.yaml"])
def test_one_batch_of_each_run_file(name: str) -> None:
    done = rehearsal.rehearse([str(FOLDER / "image_folder" / name)], ["scaling.use_gpu=false"])
    assert "a checkpoint saved, loaded and restored" in done.done
    assert {"train/loss", "val/acc", "val/f1"} <= set(done.logged)
