"""The data sets of the examples: a source is chosen once a run, and fetched once a node."""

from trainer_app.examples.data.choose import load, resolve_source
from trainer_app.examples.data.idx import Arrays, DataError

__all__ = ["Arrays", "DataError", "load", "resolve_source"]
