"""Data sets of the examples: the source is chosen once per run, and fetched once per node."""

from trainer_app.examples.data.choose import load_arrays, resolve_source

__all__ = ["load_arrays", "resolve_source"]
