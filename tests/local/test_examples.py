"""The examples as users run them: on a real Ray, and with their data on a real S3."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.local.runs import Ran
from tests.s3 import S3
from trainer_app import examples
from trainer_app.config import load
from trainer_app.examples.data.files import fetch_files
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.image_folder import ImageDataModule
from trainer_app.examples.image_folder.patterns import write_patterns
from trainer_app.storage import open_store

pytestmark = pytest.mark.local
FOLDER = Path(examples.__file__).parent


@pytest.mark.usefixtures("ray_session")
def test_two_workers_train_on_an_archive_of_images(tmp_path: Path) -> None:
    write_patterns(tmp_path)
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        for name in ("checks", "horizontal", "vertical"):
            archive.add(tmp_path / name, f"images/{name}")
    changes = {
        "data.init_args.data_dir": tmp_path / "images.tar.gz",
        "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 3,
        "trainer.limit_val_batches": 2,
        "storage.uri": tmp_path / "runs",
    }
    ran = Ran("train", load([FOLDER / "image_folder/train.yaml"], [f"{k}={v}" for k, v in changes.items()]), "images")
    assert ran.code == 0
    (metrics,) = ran.metrics()
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "val/f1"} <= set(metrics)


@pytest.mark.full  # a minute
@pytest.mark.usefixtures("ray_session")
def test_the_image_example_learns_its_patterns_from_scratch(tmp_path: Path) -> None:
    ran = Ran("train", load([FOLDER / "image_folder/train.yaml"], [f"storage.uri={tmp_path}"]), "images")
    assert ran.code == 0 and ran.metrics()[-1]["val/acc"] >= 0.9


@pytest.mark.usefixtures("ray_session")
def test_a_sweep_of_the_text_example(tmp_path: Path) -> None:
    changes = ["tune.num_samples=2", "trainer.max_epochs=1", "tune.scheduler={fifo: {}}", f"storage.uri={tmp_path}"]
    ran = Ran("tune", load([FOLDER / "text_classifier/tune.yaml"], changes), "texts")
    assert ran.code == 0
    assert all("val/mcc" in ran.metrics(f"t{number:05}")[0] for number in range(2))


def test_images_come_from_s3_once_a_node(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    write_patterns(tmp_path / "images")
    store = open_store(s3.uri)
    for file in sorted(tmp_path.glob("images/*/00*.ppm")):
        store.put_file(f"data/{file.parent.name}/{file.name}", file)
    with tarfile.open(tmp_path / "few.tar", "w") as archive:
        for file in sorted(tmp_path.glob("images/*/00*.ppm")):
            archive.add(file, f"{file.parent.name}/{file.name}")
    store.put_file("few.tar", tmp_path / "few.tar")
    prefix, packed = (
        ImageDataModule.resolve_init_args({"data_dir": f"{s3.uri}/{name}"}) for name in ("data", "few.tar")
    )
    assert prefix["checksum"] == packed["checksum"] and prefix["data_dir"] == f"{s3.uri}/data"
    store.delete_prefix("data")
    data = ImageDataModule(**prefix, num_workers=0)
    data.setup("fit")
    assert [len(data.train), len(data.val)] == [24, 6] and data.classes == ["checks", "horizontal", "vertical"]
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "another node"))
    with pytest.raises(DataError, match="there is no such object, and no objects under it"):
        data.setup("fit")
    data = ImageDataModule(**packed, num_workers=0)
    data.setup("fit")
    store.put_file("few.tar", tmp_path / "images/checks/000.ppm")
    with pytest.raises(DataError, match="not a complete tar archive"):
        fetch_files(f"{s3.uri}/few.tar")
