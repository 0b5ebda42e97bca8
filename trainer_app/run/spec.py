"""What the worker processes of a run get."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer_app.config import RunConfig, loads
from trainer_app.records import FitFolder
from trainer_app.run import logs, user_code
from trainer_app.run.fence import fenced
from trainer_app.storage import Store, open_retrying


@dataclass(frozen=True)
class RunSpec:
    """A run as plain data, without secrets: credentials come from each process's own environment."""

    run: str
    uri: str  # of the storage, absolute
    config: str  # the resolved run file, as YAML
    use_gpu: bool
    versions: dict[str, str] = field(default_factory=dict)
    code: str = ""  # SHA-256 of the archive of the user's code; "" if it is installed, or on PYTHONPATH
    storage_timeout_s: float = 600.0  # for how long the storage may be silent
    driver: str = ""  # token of the run's lease; "" for no lease
    folder: str = ""  # where the driver was started; "" if nothing is kept of what a fit writes
    in_place: bool = False  # fits work there, not in a folder of their own
    started: float = 0.0  # when this attempt was, in Unix seconds

    def fit_folder(self, trial: str | None = None) -> FitFolder:
        """Return the folder of this run's metrics and checkpoints, or of one of its trials."""
        run = self.run_store()
        return FitFolder(run.child(f"trials/{trial}") if trial else run)

    def run_store(self) -> Store:
        """Open the run's folder in its storage; nothing is written once another driver has the run's lease."""
        store = open_retrying(self.uri, self.storage_timeout_s, begun=True).child(self.run)
        return fenced(store, self.driver)

    def load(self) -> RunConfig:
        """Return the run file; from now on the user's code can be imported, and a submitted run's output is kept."""
        logs.upload_output(self.run_store())
        user_code.install(self.run_store(), self.code)
        return loads(self.config)
