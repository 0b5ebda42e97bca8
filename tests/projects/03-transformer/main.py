"""Classify strings of digits by which bracket is left open, with a transformer."""

import math

import lightning.pytorch as pl
import torch
import torch.nn as nn
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, Dataset


class Tokens(Dataset):
    """Sequences of different lengths; the label is the commonest of the first `classes` tokens."""

    def __init__(self, size, vocab, classes, seed):
        random = torch.Generator().manual_seed(seed)
        lengths = torch.randint(6, 16, (size,), generator=random).tolist()
        self.items = []
        for length in lengths:
            tokens = torch.randint(1, vocab, (length,), generator=random)
            label = torch.bincount(tokens, minlength=vocab)[1 : classes + 1].argmax()
            self.items.append((tokens, label))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(items):
    tokens = nn.utils.rnn.pad_sequence([t for t, _ in items], batch_first=True)
    return {"tokens": tokens, "mask": tokens == 0, "labels": torch.stack([label for _, label in items])}


class TokenData(pl.LightningDataModule):
    def __init__(self, vocab: int = 6, classes: int = 3, batch_size: int = 32, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def loader(self, size, seed, shuffle=False):
        h = self.hparams
        data = Tokens(size, h.vocab, h.classes, seed)
        return DataLoader(data, h.batch_size, shuffle=shuffle, collate_fn=collate, num_workers=h.num_workers)

    def train_dataloader(self):
        return self.loader(768, 0, shuffle=True)

    def val_dataloader(self):
        return self.loader(192, 1)

    def test_dataloader(self):
        return self.loader(192, 2)


class PositionalEncoding(nn.Module):
    def __init__(self, width, longest=64):
        super().__init__()
        position = torch.arange(longest).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(longest, width)
        table[:, 0::2] = torch.sin(position * rate)
        table[:, 1::2] = torch.cos(position * rate)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x):
        return x + self.table[: x.shape[1]]


class TransformerClassifier(pl.LightningModule):
    def __init__(self, vocab: int, classes: int, width: int = 32, heads: int = 4, layers: int = 1, lr: float = 3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.embed = nn.Embedding(vocab, width, padding_idx=0)
        self.position = PositionalEncoding(width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)
        self.outputs = []

    def forward(self, tokens, mask):
        x = self.encoder(self.position(self.embed(tokens)), src_key_padding_mask=mask)
        kept = (~mask).unsqueeze(-1)
        return self.head((x * kept).sum(1) / kept.sum(1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch["tokens"], batch["mask"]), batch["labels"])
        self.log("train_loss", loss, on_epoch=True, batch_size=len(batch["labels"]))
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self(batch["tokens"], batch["mask"])
        self.outputs.append((logits.argmax(-1), batch["labels"]))

    def on_validation_epoch_end(self):
        guesses, labels = (torch.cat(part) for part in zip(*self.outputs))
        self.outputs.clear()
        self.log("val_acc", (guesses == labels).float().mean(), prog_bar=True, sync_dist=True)

    def test_step(self, batch, batch_idx):
        guess = self(batch["tokens"], batch["mask"]).argmax(-1)
        self.log("test_acc", (guess == batch["labels"]).float().mean(), batch_size=len(guess))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.hparams.lr)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
        return [optimizer], [{"scheduler": warmup, "interval": "step", "name": "warmup"}]


class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser):
        parser.link_arguments("data.vocab", "model.vocab")
        parser.link_arguments("data.classes", "model.classes")


def main():
    cli = CLI(TransformerClassifier, TokenData, run=False, save_config_callback=None)
    cli.trainer.fit(cli.model, cli.datamodule)
    print(f"validation accuracy {cli.trainer.callback_metrics['val_acc']:.3f}")
    cli.trainer.test(cli.model, cli.datamodule, ckpt_path="best")
    torch.save(cli.model.state_dict(), "weights.pt")


if __name__ == "__main__":
    main()
