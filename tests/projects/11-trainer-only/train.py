import argparse

import lightning as L
from forecast import Forecaster
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()

    L.seed_everything(17, workers=True)
    model = Forecaster(hidden=args.hidden)
    trainer = L.Trainer(
        max_epochs=args.epochs,
        logger=CSVLogger("logs"),
        callbacks=[ModelCheckpoint(monitor="val_mse"), LearningRateMonitor()],
        gradient_clip_val=0.5,
    )
    trainer.fit(model)
    print("best", trainer.checkpoint_callback.best_model_path)


if __name__ == "__main__":
    main()
