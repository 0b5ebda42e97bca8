"""TensorBoard's event files of a run, copied to this machine and kept up to date while the run writes them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainer_app.errors import NotFoundError
from trainer_app.results.model import ARTIFACTS
from trainer_app.storage import Entry, Store
from trainer_app.storage_uri import find_key_problem

NAME: Final = "events.out.tfevents."


@dataclass
class EventFiles:
    """Copies of a run's event files in a folder, without their part `artifacts/`.

    Args:
        run_store: the run's folder.
        folder: of this machine.
    """

    run_store: Store
    folder: Path
    _copied: dict[str, int] = field(default_factory=dict)

    def update(self) -> int:
        """Copy what has come since the last time, and return how many files there are."""
        for entry in self.run_store.list(ARTIFACTS):
            target = self.folder / entry.key
            if NAME not in target.name or find_key_problem(entry.key) or self._copied.get(entry.key) == entry.size:
                continue
            self._copy(entry, target)
        return len(self._copied)

    def _copy(self, entry: Entry, target: Path) -> None:
        """Append what is new: TensorBoard would not see a file that takes the place of one that it has open."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(NotFoundError), target.open("ab") as file:  # gone since it was listed
            file.write(self.run_store.get(f"{ARTIFACTS}/{entry.key}", start=file.tell()))
            self._copied[entry.key] = entry.size
