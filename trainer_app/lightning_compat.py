"""Every private name of Lightning and jsonargparse that is used or replaced; see ray_compat.py."""

from __future__ import annotations

from typing import Any, Final

from trainer_app.private_names import PrivateName as P
from trainer_app.private_names import load_name

READ_IN: Final = {"lightning": "2.6.6", "jsonargparse": "4.53.0"}

NAMES: Final = (
    P(
        "lightning.pytorch.utilities.exceptions",
        "_TunerExitException",
        "Lightning's own way out of a fit between two epochs, or before the first: it winds up and raises nothing",
    ),
    P(
        "lightning.pytorch.core.optimizer",
        "_init_optimizers_and_lr_schedulers",
        "the hyperparameters that a module configures, after a checkpoint brought back other ones",
    ),
    P(
        "lightning.pytorch.loops.fit_loop",
        "_FitLoop",
        "resumes between two epochs under max_steps; draws the next epoch's samples from a restored random state, with "
        "data loaders that are made again when those of an undisturbed fit are",
        "_restarting _data_fetcher _last_train_dl_reload_epoch",
    ),
    P(
        "lightning.pytorch.loops.evaluation_loop",
        "_EvaluationLoop",
        "validates with data loaders that are made again when those of an undisturbed fit are, with one batch size",
        "_last_val_dl_reload_epoch _data_source",
    ),
    P(
        "lightning.pytorch.loops.training_epoch_loop",
        "_TrainingEpochLoop",
        "steps counted once a batch, with several optimizers too: what Lightning gives its loggers as the step",
        "_batches_that_stepped",
    ),
    P(
        "lightning.pytorch.tuner.lr_finder",
        "_determine_lr_attr_name",
        "the attribute that a search for a learning rate sets, for a resumed fit that does not repeat it",
    ),
    P(
        "lightning.pytorch.callbacks",
        "LearningRateFinder",
        "whether and where it sets the rate that it found; a Tuner's short fit, not the one that user code goes on to",
        "_attr_name _update_attr _early_exit",
    ),
    P("lightning.pytorch.callbacks", "BatchSizeFinder", "where it sets the size that it found", "_batch_arg_name"),
    P(
        "lightning.pytorch.trainer.trainer",
        "Trainer",
        "what a checkpoint will hold, before the first epoch (the connector's dump_checkpoint)",
        "_checkpoint_connector",
    ),
    P(
        "lightning.pytorch.strategies",
        "ModelParallelStrategy",
        "whether it writes shards; the sizes of its mesh, which Lightning counts in devices of a process",
        "_save_distributed_checkpoint _data_parallel_size _tensor_parallel_size",
    ),
    P("lightning.pytorch.strategies", "FSDPStrategy", "whether it writes shards", "_state_dict_type"),
    P(
        "lightning.pytorch.loggers",
        "CSVLogger",
        "where it writes, which a rehearsal changes; other loggers that write files have the same names",
        "_save_dir _root_dir",
    ),
    P(
        "lightning.pytorch.cli",
        "LightningCLI",
        "parses a user's CLI without a run, with our Trainer arguments",
        "_run_subcommand _instantiate_trainer _subcommand_parsers parse_arguments init_parser subcommands",
    ),
    P(
        "jsonargparse",
        "ArgumentParser",
        "the keys that a user's CLI knows (the attribute is argparse's); lists are merged",
        "_actions _apply_actions",
    ),
)


def __getattr__(name: str) -> Any:
    return load_name(NAMES, name, READ_IN)
