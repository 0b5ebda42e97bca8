"""Batches of tensors in memory, one index operation each. Public: a data module of your own may use it.

dataset = BatchedDataset((images, labels), transform=Normalise(mean, std))
return loader(dataset, batch_size=64, shuffle=True)
"""

from trainer_app.data.batches import BatchedDataset, Normalise, add_shifted_copies, loader, split_indices

__all__ = ["BatchedDataset", "Normalise", "add_shifted_copies", "loader", "split_indices"]
