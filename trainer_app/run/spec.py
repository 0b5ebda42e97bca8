"""What the processes of a run are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer_app.config import RunConfig, loads
from trainer_app.records import FitFolder
from trainer_app.run import logs, user_code
from trainer_app.storage import Store, open_store


@dataclass(frozen=True)
class RunSpec:
    """Plain data, no secrets: credentials come from each process's own environment.

    Args:
        uri: of the storage, absolute.
        config: the resolved run file, as YAML.
        code: SHA-256 of the archive of the user's code; "" where it is installed, or on PYTHONPATH.
        driver: token of the run's lease; "" for no lease.
    """

    run: str
    uri: str
    config: str
    use_gpu: bool
    versions: dict[str, str] = field(default_factory=dict)
    code: str = ""
    driver: str = ""

    def fit_folder(self, trial: str | None = None) -> FitFolder:
        """This run's metrics and checkpoints, or those of one of its trials."""
        run = self.store()
        return FitFolder(run.child(f"trials/{trial}") if trial else run)

    def store(self) -> Store:
        """The run's."""
        return open_store(self.uri).child(self.run)

    def load(self) -> RunConfig:
        """The run file, in a process that is to run it: from here on the user's code can be imported there, and what
        the process of a submitted run prints is kept in storage."""
        logs.upload_output(self.store())
        user_code.install(self.store(), self.code)
        return loads(self.config)
