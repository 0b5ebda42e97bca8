"""A small transformer encoder on labelled sentences, as in Ray's example of BERT on CoLA; with FSDP2 where asked."""

from trainer_app.examples.text_classifier.data import TextDataModule
from trainer_app.examples.text_classifier.model import TextClassifier

__all__ = ["TextClassifier", "TextDataModule"]
