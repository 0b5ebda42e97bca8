"""What a user of the end-to-end tests brings along: epochs of a known length, and an end when a test says so.

A test that disturbs a run must not race with it: on 2 cores that 4 nodes share, an epoch takes 1 to 4 s and a look at
the run 1 to 3 s, so that no number of epochs is both enough and soon over.
"""

from __future__ import annotations

import time
from typing import Any

import boto3
import lightning.pytorch as pl
from botocore.config import Config
from botocore.exceptions import ClientError


class Paced(pl.Callback):
    """Training goes on until the object `key` is in the bucket.

    Args:
        seconds: what an epoch waits before it begins.
    """

    def __init__(self, bucket: str, key: str, seconds: float = 2.0) -> None:
        self.bucket, self.key, self.seconds = bucket, key, seconds
        self.s3: Any = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        time.sleep(self.seconds)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        told = trainer.is_global_zero and self._told()
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(told, all=False)

    def _told(self) -> bool:
        # The endpoint and the keys are in the pod's environment.
        self.s3 = self.s3 or boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
        try:
            self.s3.head_object(Bucket=self.bucket, Key=self.key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return False
        return True
