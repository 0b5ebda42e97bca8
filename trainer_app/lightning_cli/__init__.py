"""From a run file's blocks to a model, a data module and a Trainer, always through a LightningCLI.

Two forms. `class_path` + `init_args`: Lightning's own LightningCLI in subclass mode. `cli: package.module:name`: the
person's LightningCLI, or whatever callable makes one. Either way jsonargparse checks arguments against signatures.

Where user code is found: the working directory comes first on `sys.path`, as with `python -m`, then what `PYTHONPATH`
names; `importable(folder)` adds the folder of a run file.
"""

from trainer_app.lightning_cli.build import Parts, build, check, default_seed, resolve
from trainer_app.lightning_cli.importing import add_import_paths
from trainer_app.lightning_cli.space_check import check_space

__all__ = ["Parts", "add_import_paths", "build", "check", "check_space", "default_seed", "resolve"]
