"""A submitted run's own folder in storage, as the launcher reads and writes it: launch/, control/, logs/, code/."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from trainer_app.errors import AlreadyExistsError, NotFoundError, StorageError
from trainer_app.records import RunRecord, parse_part_key, rename_epoch
from trainer_app.run import decision, documents, stop
from trainer_app.storage import Entry, Store, open_store

_REQUIRED = {"run", "task", "namespace", "submission", "chart", "app_version"}
RUN_FILE, VALUES, LAUNCH = "launch/run.yaml", "launch/values.yaml", "launch/launch.json"


@dataclass(frozen=True)
class Launch:
    """What a run was submitted with, so that it can be created again; `created` in Unix seconds."""

    run: str
    task: str
    namespace: str
    submission: str
    chart: str
    app_version: str
    code: str = ""
    image: str = ""
    user: str = ""
    created: float = field(default_factory=time.time)
    env: tuple[str, ...] = ()  # names of the environment variables of --env; their values are not kept
    former: tuple[str, ...] = ()  # submissions before this one: each was ended by a user's resume


class Submission(NamedTuple):
    """All that `resume` needs to create a run again: how it was submitted, the run file's text, the user's values."""

    launch: Launch
    run_file: str
    values: dict[str, Any]


def parse_submission(texts: Mapping[str, str], keys: Sequence[str], *, where: str) -> Submission:
    """Read what a run was submitted with.

    Args:
        texts: by key.
        keys: those of launch, run file and values.
        where: what has these keys, for the message.

    Raises:
        StorageError: a key is missing, or its text is damaged.
    """
    if missing := [key for key in keys if key not in texts]:
        raise StorageError(f"{where}: {missing[0]} is missing")
    launch, values = (_parse_object(texts[key], f"{where}: {key}") for key in (keys[0], keys[2]))
    known: dict[str, Any] = {name: launch[name] for name in Launch.__dataclass_fields__ if name in launch}
    names: dict[str, Any] = {name: known.pop(name, []) for name in ("env", "former")}
    created = known.pop("created", 0.0)
    items = [item for one in names.values() for item in (one if isinstance(one, list) else [None])]
    if (
        _REQUIRED - known.keys()
        or not all(isinstance(text, str) for text in (*known.values(), *items))
        or known["task"] not in ("train", "tune")
        or not isinstance(created, int | float)
    ):
        raise StorageError(f"{where}: {keys[0]} is damaged: it is not what trainer submit writes")
    known |= {name: tuple(one) for name, one in names.items()}
    return Submission(Launch(**known, created=created), texts[keys[1]], values)


class RemoteRun:
    """A run's folder in storage (`run_store`). Every method raises StorageError or one of its subclasses."""

    def __init__(self, run_store: Store, run: str) -> None:
        self.run_store = run_store
        self.run = run

    @classmethod
    def open(cls, uri: str, run: str) -> RemoteRun:
        """Open a run's folder in the storage at `uri`."""
        return cls(open_store(uri).child(run), run)

    def claim(self, launch: Launch, run_file: str, values: dict[str, Any]) -> None:
        """Reserve the run's name, and write what `resume` needs; raise AlreadyExistsError if there is such a run.

        Args:
            launch: written as launch.json, whose existence reserves the name.
            values: the user's merged values, without secrets.
        """
        taken = AlreadyExistsError(
            f"run {self.run!r} is in {self.run_store.uri} already; resume it: trainer resume {self.run}; "
            "or give another --name"
        )
        if self.run_store.exists("run.json"):
            raise taken
        try:
            documents.write(self.run_store, LAUNCH, asdict(launch), create=True)
        except AlreadyExistsError as error:
            raise taken from error
        self.write_run_file(run_file)
        self.write_values(values)

    def write_run_file(self, text: str) -> None:
        """Write the run file as it was submitted."""
        self.run_store.put(RUN_FILE, text.encode())

    def write_values(self, values: dict[str, Any]) -> None:
        """Write the values that `resume` renders the chart with."""
        documents.write(self.run_store, VALUES, values)  # JSON is YAML

    def undo_claim(self) -> None:
        """Undo `claim` for a run that could not be created. Its code stays: the next try has the same."""
        with suppress(StorageError):  # the reason why it could not be created is what counts
            for key in (RUN_FILE, VALUES, LAUNCH):
                self.run_store.delete(key)

    def read_launch(self) -> Submission:
        """Return what it was submitted with, as the storage has it: every run of the same keys can write there.

        Raises:
            NotFoundError: no run of this name was submitted to this storage.
            StorageError: it is damaged.
        """
        try:
            texts = {key: self.run_store.get(key).decode(errors="replace") for key in (LAUNCH, RUN_FILE, VALUES)}
        except NotFoundError as error:
            raise NotFoundError(
                f"run {self.run!r} can't be created again: {self.run_store.uri} has no launch.json; check the storage "
                "(--values FILE), and that the run was submitted with trainer submit"
            ) from error
        return parse_submission(texts, (LAUNCH, RUN_FILE, VALUES), where=self.run_store.uri)

    def record_resubmission(self, launch: Launch) -> None:
        """Record a user's resume: drivers of any other submission will refuse to start."""
        documents.write(self.run_store, LAUNCH, asdict(launch))
        decision.write_owner(self.run_store, launch.submission, task=launch.task)

    def request_stop(self, request: str, by: str) -> None:
        """Ask the run to stop: the driver reads this every 2 s, workers at the start of every epoch."""
        documents.write(self.run_store, stop.REQUEST, {"id": request, "asked": time.time(), "by": by})

    def read_stop(self, request: str | None = None) -> dict[str, Any] | None:
        """Return where the run stopped ({epochs, step, commit, at}) for this request, or for any if None."""
        try:
            answer = rename_epoch(self._read_json(stop.ANSWER))
        except NotFoundError:
            return None
        return answer if request in (None, answer.get("id")) else None

    def clear_stop(self) -> None:
        """Remove a stop request and its answer: else a resumed run would stop again."""
        stop.withdraw_request(self.run_store)
        self.run_store.delete(stop.ANSWER)

    def read_record(self) -> RunRecord | None:
        """Return how far the run is; None before its driver started."""
        try:
            return RunRecord.from_json(self.run_store.get("run.json"), f"{self.run_store.uri}: run.json")
        except NotFoundError:
            return None

    def count_attempts(self) -> int:
        """Return how often a train run's workers were started and wrote metrics; a lost worker or driver ends one."""
        orders = [parse_part_key(entry.key) for entry in self.run_store.list("metrics")]
        return max((order[0] for order in orders if order), default=0)

    def list_logs(self, role: str) -> list[Entry]:
        """Return the log objects of a role: `driver`, or all others for `workers`."""
        entries = self.run_store.list("logs")
        return [entry for entry in entries if (entry.key.partition("/")[0] == "driver") == (role == "driver")]

    def read_log(self, key: str, *, start: int = 0) -> bytes:
        """Return a log object's bytes from `start` on; none if it is gone."""
        try:
            return self.run_store.get(f"logs/{key}", start=start)
        except NotFoundError:
            return b""

    def put_code(self, digest: str, data: bytes) -> None:
        """Upload the code archive, unless these bytes, which have this name, are there."""
        if not self.run_store.exists(f"code/{digest}.zip"):
            self.run_store.put(f"code/{digest}.zip", data)

    def _read_json(self, key: str) -> dict[str, Any]:
        return _parse_object(self.run_store.get(key), f"{self.run_store.uri}: {key}")


def _parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{where} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise StorageError(f"{where} is damaged: a JSON object was expected")
    return document


def format_position(stopped: dict[str, Any] | None) -> str:
    """`step 120 (3 epochs, commit e000003)`, with what is known of it."""
    if not stopped:
        return "an unknown step"
    details = [f"{stopped['epochs']} epochs"] if stopped.get("epochs") is not None else []
    details += [f"commit {stopped['commit']}"] if stopped.get("commit") else ["no commit"]
    return f"step {stopped.get('step') or 0} ({', '.join(details)})"
