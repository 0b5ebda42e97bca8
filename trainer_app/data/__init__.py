"""Fast data: sources that are chosen once and fetched once a node, and batches made by one index operation."""

from trainer_app.data.batches import BatchedDataset, Normalise, loader, shifted, split
from trainer_app.data.choose import load, settle
from trainer_app.data.idx import Arrays, DataError

__all__ = ["Arrays", "BatchedDataset", "DataError", "Normalise", "load", "loader", "settle", "shifted", "split"]
