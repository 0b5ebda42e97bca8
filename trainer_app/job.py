"""What the processes of a run are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer_app.config import RunConfig, loads
from trainer_app.records import Unit
from trainer_app.storage import open_store


@dataclass(frozen=True)
class Job:
    """Plain data, no secrets: credentials come from each process's own environment.

    Args:
        uri: of the storage, absolute.
        config: the resolved run file, as YAML.
    """

    run: str
    uri: str
    config: str
    use_gpu: bool
    versions: dict[str, str] = field(default_factory=dict)

    def unit(self, trial: str | None = None) -> Unit:
        """This run's metrics and checkpoints, or those of one of its trials."""
        run = open_store(self.uri).child(self.run)
        return Unit(run.child(f"trials/{trial}") if trial else run)

    def load(self) -> RunConfig:
        return loads(self.config)
