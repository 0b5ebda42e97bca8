"""EfficientNet-B0 on a folder of images: the production example of a Lightning deep dive, from scratch or pretrained.

Source: "PyTorch Lightning Training - Deep Dive".
"""

from trainer_app.examples.image_folder.data import ImageDataModule
from trainer_app.examples.image_folder.model import ImageClassifier

__all__ = ["ImageClassifier", "ImageDataModule"]
