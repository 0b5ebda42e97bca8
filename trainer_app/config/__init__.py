"""The run file: types, loading, dotted overrides. Imports only pydantic and ruamel.yaml."""

from trainer_app.config.find import searched_keys
from trainer_app.config.loader import dump, load, loads, override, require_tune
from trainer_app.config.models import RunConfig
from trainer_app.config.space import Primitive
from trainer_app.config.tuning import Tune

__all__ = ["Primitive", "RunConfig", "Tune", "dump", "load", "loads", "override", "require_tune", "searched_keys"]
