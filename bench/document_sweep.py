"""The sweep of Ray's guide "Using PyTorch Lightning with Tune" (Ray documentation, Apache-2.0), ported to Ray 2.60.

Demonstration code of that document, as little changed as it will run here; a side of bench/sweep_vs_document.py.
What is changed is marked `ported:` below: the data is a folder instead of a download, the resources have no GPU, the
ten configurations are given, so that both sides train the same ones, and what came out is written as JSON.
"""

import json  # ported: not in the document
import os
import sys
import tempfile
import time

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from filelock import FileLock
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator  # ported: not in the document
from torch.utils.data import DataLoader, random_split
from torchmetrics import Accuracy
from torchvision import transforms
from torchvision.datasets import MNIST


class MNISTClassifier(pl.LightningModule):
    def __init__(self, config):
        super(MNISTClassifier, self).__init__()
        self.accuracy = Accuracy(task="multiclass", num_classes=10, top_k=1)
        self.layer_1_size = config["layer_1_size"]
        self.layer_2_size = config["layer_2_size"]
        self.lr = config["lr"]

        # mnist images are (1, 28, 28) (channels, width, height)
        self.layer_1 = torch.nn.Linear(28 * 28, self.layer_1_size)
        self.layer_2 = torch.nn.Linear(self.layer_1_size, self.layer_2_size)
        self.layer_3 = torch.nn.Linear(self.layer_2_size, 10)
        self.eval_loss = []
        self.eval_accuracy = []

    def cross_entropy_loss(self, logits, labels):
        return F.nll_loss(logits, labels)

    def forward(self, x):
        batch_size, channels, width, height = x.size()
        x = x.view(batch_size, -1)

        x = self.layer_1(x)
        x = torch.relu(x)

        x = self.layer_2(x)
        x = torch.relu(x)

        x = self.layer_3(x)
        x = torch.log_softmax(x, dim=1)

        return x

    def training_step(self, train_batch, batch_idx):
        x, y = train_batch
        logits = self.forward(x)
        loss = self.cross_entropy_loss(logits, y)
        accuracy = self.accuracy(logits, y)

        self.log("ptl/train_loss", loss)
        self.log("ptl/train_accuracy", accuracy)
        return loss

    def validation_step(self, val_batch, batch_idx):
        x, y = val_batch
        logits = self.forward(x)
        loss = self.cross_entropy_loss(logits, y)
        accuracy = self.accuracy(logits, y)
        self.eval_loss.append(loss)
        self.eval_accuracy.append(accuracy)
        return {"val_loss": loss, "val_accuracy": accuracy}

    def on_validation_epoch_end(self):
        avg_loss = torch.stack(self.eval_loss).mean()
        avg_acc = torch.stack(self.eval_accuracy).mean()
        self.log("ptl/val_loss", avg_loss, sync_dist=True)
        self.log("ptl/val_accuracy", avg_acc, sync_dist=True)
        self.eval_loss.clear()
        self.eval_accuracy.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return optimizer


class MNISTDataModule(pl.LightningDataModule):
    def __init__(self, batch_size=128):
        super().__init__()
        self.data_dir = os.environ["DOCUMENT_DATA"]  # ported: an empty folder, filled by a download a trial
        self.batch_size = batch_size
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
        )

    def setup(self, stage=None):
        with FileLock(f"{self.data_dir}.lock"):
            mnist = MNIST(
                self.data_dir, train=True, download=False, transform=self.transform  # ported: download=True
            )
            # ported: [55000, 5000]; of another data set a ninth, as in trainer_app.data.split_indices
            val = 5000 if len(mnist) == 60000 else round(len(mnist) / 9)
            self.mnist_train, self.mnist_val = random_split(mnist, [len(mnist) - val, val])

            self.mnist_test = MNIST(
                self.data_dir, train=False, download=False, transform=self.transform  # ported: download=True
            )

    def train_dataloader(self):
        return DataLoader(self.mnist_train, batch_size=self.batch_size, num_workers=4)

    def val_dataloader(self):
        return DataLoader(self.mnist_val, batch_size=self.batch_size, num_workers=4)

    def test_dataloader(self):
        return DataLoader(self.mnist_test, batch_size=self.batch_size, num_workers=4)


# The maximum training epochs
num_epochs = 5


def train_func(config):
    dm = MNISTDataModule(batch_size=config["batch_size"])
    model = MNISTClassifier(config)

    trainer = pl.Trainer(
        devices="auto",
        accelerator="auto",
        callbacks=[TuneReportCheckpointCallback()],
        enable_progress_bar=False,
        max_epochs=num_epochs,  # ported: none, ASHA ends trials at its max_t
    )
    trainer.fit(model, datamodule=dm)


search_space = {
    "layer_1_size": tune.choice([32, 64, 128]),
    "layer_2_size": tune.choice([64, 128, 256]),
    "lr": tune.loguniform(1e-4, 1e-1),
    "batch_size": tune.choice([32, 64]),
}

# Number of samples from parameter space
num_samples = 10

train_fn_with_resources = tune.with_resources(train_func, resources={"CPU": 1})  # ported: and "GPU": 1


def tune_mnist_asha(num_samples=10, configs=None, storage=None, asha=True):
    scheduler = ASHAScheduler(max_t=num_epochs, grace_period=1, reduction_factor=2) if asha else None  # ported: always

    tuner = tune.Tuner(
        train_fn_with_resources,
        param_space=search_space,
        tune_config=tune.TuneConfig(
            metric="ptl/val_accuracy",
            mode="max",
            num_samples=num_samples,
            scheduler=scheduler,
            search_alg=BasicVariantGenerator(points_to_evaluate=configs),  # ported: drawn by Tune
        ),
        run_config=tune.RunConfig(
            storage_path=storage,  # ported: ~/ray_results
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=2,
                checkpoint_score_attribute="ptl/val_accuracy",
                checkpoint_score_order="max",
            ),
        ),
    )
    return tuner.fit()


# ported: from here on
if __name__ == "__main__":
    given = json.loads(sys.argv[1])  # {"configs": [...], "out": file, "asha": bool}
    with tempfile.TemporaryDirectory() as storage:
        start = time.time()
        configs, asha = given["configs"], given["asha"]
        results = tune_mnist_asha(num_samples=len(configs), configs=configs, storage=storage, asha=asha)
        best = results.get_best_result(metric="ptl/val_accuracy", mode="max")
        trials = [
            {
                "config": result.config,
                "epochs": len(result.metrics_dataframe) if result.metrics_dataframe is not None else 0,
                "best": float(result.metrics_dataframe["ptl/val_accuracy"].max()) if not result.error else None,
                "error": str(result.error) if result.error else None,
            }
            for result in results
        ]
        summary = {"sweep_s": time.time() - start, "best": best.metrics["ptl/val_accuracy"], "trials": trials}
        with open(given["out"], "w") as out:
            json.dump(summary, out)
