"""From a run file's blocks to a model, a data module and a Trainer, always through a LightningCLI.

A run file has one of two forms. `class_path` + `init_args`: Lightning's own LightningCLI in subclass mode.
`cli: package.module:name`: the user's LightningCLI, or a callable that makes one. Either way jsonargparse checks the
arguments against signatures.

User code is imported from the working directory, which comes first on `sys.path` as with `python -m`, then from
`PYTHONPATH`; `add_import_paths(folder)` adds the folder of a run file.
"""

from trainer_app.lightning_cli.build import (
    Parts,
    build_parts,
    check_code,
    default_limits,
    default_seed,
    import_user_code,
    resolve_init_args,
    seed_of_true,
)
from trainer_app.lightning_cli.importing import add_import_paths
from trainer_app.lightning_cli.parts_check import check_parts
from trainer_app.lightning_cli.space_check import check_space

__all__ = [
    "Parts",
    "add_import_paths",
    "build_parts",
    "check_code",
    "check_parts",
    "check_space",
    "default_limits",
    "default_seed",
    "import_user_code",
    "resolve_init_args",
    "seed_of_true",
]
