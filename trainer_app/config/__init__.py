"""The run file: types, loading, dotted overrides. Imports only pydantic and ruamel.yaml."""

from trainer_app.config.loader import dump, load, loads, override, require_tune, scaling_differs
from trainer_app.config.models import Checkpoint, Failure, RunConfig, Scaling, Storage
from trainer_app.config.space import Primitive
from trainer_app.config.tuning import Pbt, Scheduler, Searcher, Tune

__all__ = [
    "Checkpoint",
    "Failure",
    "Pbt",
    "Primitive",
    "RunConfig",
    "Scaling",
    "Scheduler",
    "Searcher",
    "Storage",
    "Tune",
    "dump",
    "load",
    "loads",
    "override",
    "require_tune",
    "scaling_differs",
]
