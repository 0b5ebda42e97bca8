"""Images in a folder for each class, with the transforms of ImageNet's recipes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, random_split
from torchvision import transforms
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader, make_dataset

from trainer_app.examples.data.files import fetch_files, resolve_files
from trainer_app.examples.data.idx import DataError
from trainer_app.examples.image_folder.patterns import write_patterns

PATTERNS: Final = "patterns"
MADE: Final = {PATTERNS: write_patterns}
SPLIT: Final = re.compile(r"(train|val|valid|validation|dev|eval|test)(ing)?([ _-]?(set|data|images))?", re.IGNORECASE)
NORMALISE: Final = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # ImageNet's
Sample = tuple[str, int]  # file and class


class Images(Dataset[tuple[Tensor, int]]):
    """Some of the images, with a transform of their own: two splits of one data set must not share one."""

    def __init__(self, samples: Sequence[Sample], transform: Callable[[Any], Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.samples[index]
        try:
            image = default_loader(file)
        except Exception as e:  # a decoder's errors are of many classes
            raise DataError(f"{file}: not an image that can be read: {e}; replace or remove it") from e
        return self.transform(image), label


class ImageDataModule(pl.LightningDataModule):
    """Images in one subfolder for each class: batches are float images [b, 3, size, size] and int64 labels [b].

    Args:
        data_dir: `patterns` (drawn here), a folder with one subfolder for each class, a .tar or .tar.gz of it, or
            `s3://bucket/...` of one of them.
        checksum: of the images that the run started with; `trainer` fills it in.
        batch_size: images a batch, on each worker.
        num_workers: processes that load images, on each worker; they stay alive between epochs.
        size: pixels of a side, of what the model sees.
        split_seed: draws the fifth of the images that is for validation; the same ones on every worker and trial.
    """

    def __init__(
        self,
        data_dir: str = PATTERNS,
        checksum: str | None = None,
        batch_size: int = 32,
        num_workers: int = 4,
        size: int = 224,
        split_seed: int = 42,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.train_transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.2, 0.2, 0.2),
                transforms.ToTensor(),
                NORMALISE,
            ]
        )
        self.val_transform = transforms.Compose(
            [transforms.Resize(size * 256 // 224), transforms.CenterCrop(size), transforms.ToTensor(), NORMALISE]
        )

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        """Resolve `data_dir` and `checksum`; `trainer` calls this once, before the workers start."""
        resolved, files = resolve_files(init_args, source="data_dir", checksum="checksum", default=PATTERNS, made=MADE)
        find_images(files.path)
        return resolved

    def setup(self, stage: str | None = None) -> None:
        files = fetch_files(self.hparams["data_dir"], checksum=self.hparams["checksum"], made=MADE)
        self.classes, samples = find_images(files.path)
        sizes = [train_size := int(0.8 * len(samples)), len(samples) - train_size]
        train, val = random_split(samples, sizes, torch.Generator().manual_seed(self.hparams["split_seed"]))
        for number, name in enumerate(self.classes):
            if not any(label == number for _, label in train):
                raise DataError(f"{files.path / name}: too few images, all are for validation; add some")
        self.train = Images(list(train), self.train_transform)
        self.val = Images(list(val), self.val_transform)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def _loader(self, images: Images, *, shuffle: bool = False) -> DataLoader:
        workers = self.hparams["num_workers"]
        return DataLoader(
            images,
            batch_size=self.hparams["batch_size"],
            shuffle=shuffle,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )


def find_images(folder: Path) -> tuple[list[str], list[Sample]]:
    """Return the classes, and (file, class) of each image.

    Raises:
        DataError: there are not at least two classes with images, or too few images to split.
    """
    hint = "one subfolder for each class is needed, with its images"
    if not folder.is_dir():
        raise DataError(f"{folder}: a file; {hint}, or a .tar or .tar.gz of that")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) == 1 and any(path.is_dir() for path in (folder / names[0]).iterdir()):
        return find_images(folder / names[0])  # an archive often holds one folder, with all in it
    if names and all(map(SPLIT.fullmatch, names)):
        raise DataError(f"{folder}: holds {', '.join(names)}, which are no classes; name the folder of one of them")
    if len(names) < 2:
        raise DataError(f"{folder}: holds {', '.join(names) or 'no subfolder'}; {hint}, and at least two classes")
    numbers = {name: number for number, name in enumerate(names)}
    found = make_dataset(str(folder), numbers, IMG_EXTENSIONS, allow_empty=True)
    samples = [(file, label) for file, label in found if f"{os.sep}." not in file.removeprefix(str(folder))]
    counts = Counter(label for _, label in samples)
    empty = [name for name, number in numbers.items() if not counts[number]]
    if empty:
        raise DataError(f"{folder}: no images in {', '.join(empty[:10])}; {hint}")
    return names, samples
