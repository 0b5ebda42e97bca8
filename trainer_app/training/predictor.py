"""The process that predicts: it holds the module of one commit, and commits one part of the rows after the other."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from trainer_app.data.rows import RowFile, Rows, to_batch
from trainer_app.errors import InputError, TrainerError, UserError
from trainer_app.formatting import one_line
from trainer_app.lightning_cli.build import Parts
from trainer_app.run import user_code
from trainer_app.run.orphans import PREDICTIONS
from trainer_app.storage import Store, open_store
from trainer_app.temporary import temporary_folder
from trainer_app.training.chosen import loaded_parts, reopen
from trainer_app.training.evaluate import group_of_one
from trainer_app.training.prediction_parts import Part, part_of_loader
from trainer_app.training.prediction_table import check_kind, to_table
from trainer_app.user_errors import describe_error, format_traceback, plain_errors

MOST_NAMED: Final = 20  # columns in a message


@dataclass(frozen=True)
class PredictJob:
    """What every process that predicts needs to know: plain data, without secrets."""

    uri: str  # of the storage
    run: str
    trial: str | None
    commit: str
    key: str  # of the folder with the parts
    files: tuple[RowFile, ...] = ()  # none: the data module's
    columns: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    batch_size: int = 1024
    allow: tuple[str, ...] = ()
    accelerator: str = "cpu"
    kind: str = ".parquet"  # of the output file
    code: str = ""  # SHA-256 of the archive of the user's code; "" if it can be imported

    def store(self) -> Store:
        """Open the folder of the parts."""
        return open_store(self.uri).child(f"{self.run}/{PREDICTIONS}/{self.key}")


class Predictor:
    """The module of a job's commit, on one device."""

    def __init__(self, job: PredictJob) -> None:
        self.job, self.store = job, job.store()
        self._exit = ExitStack()
        storage = open_store(job.uri)
        user_code.install(storage.child(job.run), job.code)
        self._cache = Path(self._exit.enter_context(temporary_folder("predict")))
        self._exit.enter_context(group_of_one())
        chosen = reopen(storage, job.run, job.commit, trial=job.trial, allow=job.allow)
        self.parts: Parts = self._exit.enter_context(loaded_parts(chosen, accelerator=job.accelerator))
        self.loaders: list[Any] = [] if job.files else _predict_loaders(self.parts)
        self._source: tuple[int, Rows] | None = None

    def close(self) -> None:
        """Remove what this process made on its disk."""
        self._exit.close()

    def predict(self, part: Part) -> int:
        """Predict a part and commit it; return its number of rows.

        Raises:
            UserError: the user's code raised something.
            InputError: its rows are no batch. TrainerError: `predict_step` returned something else than a row each, or
                what the output file can't hold.
        """
        table = self._predict_rows(part) if self.job.files else self._predict_loader(part)
        check_kind(table, self.job.kind)
        path = self._cache / part.key
        pq.write_table(table, path)
        self.store.put_file(part.key, path)
        path.unlink()
        return len(table)

    def _predict_rows(self, part: Part) -> pa.Table:
        if self._source is None or self._source[0] != part.source:
            rows = Rows(self.job.files[part.source], self._cache)
            rows.check_columns((*self.job.columns, *self.job.keep))
            self._source = part.source, rows
        assert part.stop is not None
        table, size = self._source[1].read(part.start, part.stop), self.job.batch_size
        batches = [to_batch(table.slice(at, size), self.job.columns) for at in range(0, len(table), size)]
        try:
            outputs = self._run(DataLoader(batches, batch_size=None))
        except UserError as error:
            error.args = (f"{error}; {self._explain_batch(table.column_names)}",)
            raise
        predicted = to_table(outputs, len(table))
        kept = {name: table[name] for name in self.job.keep}
        if clash := sorted(kept.keys() & set(predicted.column_names)):
            raise InputError(f"--keep {clash[0]}: predict_step returns a column of this name too")
        return pa.table({**kept, **dict(zip(predicted.column_names, predicted.columns, strict=True))})

    def _explain_batch(self, names: Sequence[str]) -> str:
        """Return what a batch of rows is, for a module that may expect another one."""
        has = ", ".join([*names[:MOST_NAMED], *(["..."] if len(names) > MOST_NAMED else [])])
        if self.job.columns:
            return f"its batch was one tensor, of --columns {','.join(self.job.columns)}; --data has {has}"
        batch = f"its batch was a mapping of all columns of --data ({has})"
        return f"{batch}; for one tensor name the columns in it: --columns A,B"

    def _predict_loader(self, part: Part) -> pa.Table:
        loader = self.loaders[part.source]
        if part.stop is None:
            return to_table(self._run(loader, part.source))
        return to_table(self._run(part_of_loader(loader, part), part.source), part.stop - part.start)

    def _run(self, loader: Any, source: int = 0) -> Sequence[Any]:
        """Return what Lightning's `Trainer.predict` returns, a batch's output each.

        Args:
            loader: of the batches.
            source: its place among the data module's loaders, which hooks and `predict_step` learn as `dataloader_idx`.
        """
        model, data, trainer = self.parts.model, self.parts.datamodule, self.parts.trainer
        several = len(self.loaders) > 1 and _takes_index(model.predict_step)
        loaders: Any = [loader if index == source else [] for index in range(len(self.loaders))] if several else loader
        if data is None or self.job.files:
            where = {"dataloaders": loaders}
        else:
            data.predict_dataloader, where = lambda: loaders, {"datamodule": data}
        try:
            with plain_errors(let_pass=MisconfigurationException):
                outputs = trainer.predict(model, **where, return_predictions=True)
        except MisconfigurationException as error:
            raise InputError(f"this run can't predict: {one_line(error)}") from error
        outputs = outputs[source] if outputs and several else outputs
        if outputs is None or any(output is None for output in outputs):
            raise TrainerError("predict_step returned nothing: it must return a prediction for each row")
        return outputs


def _takes_index(step: Any) -> bool:
    """Return whether a `predict_step` takes a `dataloader_idx`: Lightning has no several loaders for another one."""
    parameters = inspect.signature(step).parameters.values()
    return any(one.name == "dataloader_idx" or one.kind is one.VAR_POSITIONAL for one in parameters)


class PartWorker:
    """A predictor in a process of Ray Data, which keeps no exception: what went wrong is among what it returns.

    Called with a batch of parts, {"index", "source", "start", "stop"} as arrays.
    """

    def __init__(self, job: PredictJob) -> None:
        self._job = job
        self._predictor: Predictor | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        fields = zip(*(batch[name].tolist() for name in ("index", "source", "start", "stop")), strict=True)
        parts = [Part(index, source, start, stop if stop >= 0 else None) for index, source, start, stop in fields]
        answers = [self._predict(part) for part in parts]
        return {name: [answer[name] for answer in answers] for name in ("rows", "error", "traceback", "exit_code")}

    def _predict(self, part: Part) -> dict[str, Any]:
        """Return how many rows a part has, or the error as text."""
        try:
            self._predictor = self._predictor or Predictor(self._job)
            return {"rows": self._predictor.predict(part), "error": "", "traceback": "", "exit_code": 0}
        except Exception as error:  # noqa: BLE001 - the driver raises it
            code = error.exit_code if isinstance(error, TrainerError) else 1
            return {"rows": 0, "error": describe_error(error), "traceback": format_traceback(error), "exit_code": code}


def raise_error(answer: dict[str, Any]) -> None:
    """Raise the error in an answer of a PartWorker, if there is one."""
    if answer["exit_code"] == InputError.exit_code:
        raise InputError(answer["error"])
    if answer["error"]:
        raise UserError(answer["error"], answer["traceback"])


def _predict_loaders(parts: Parts) -> list[Any]:
    """Return the data loaders of `predict_dataloader`; from now on the data module does not set up again.

    Raises:
        InputError: there are none.
    """
    source = parts.datamodule or parts.model
    source.trainer = parts.trainer
    parts.trainer.strategy.connect(parts.model)
    try:
        with plain_errors(let_pass=MisconfigurationException):
            if parts.datamodule is not None:
                source.prepare_data()
                source.setup("predict")
            loaders = source.predict_dataloader()
            loaders = pytree.tree_leaves(loaders.iterables if isinstance(loaders, CombinedLoader) else loaders)
    except MisconfigurationException as error:
        raise InputError("the run's data has no predict_dataloader: write one, or give --data") from error
    for hook in ("prepare_data", "setup", "teardown"):
        if parts.datamodule is not None:
            setattr(source, hook, lambda *_, **__: None)
    return list(loaders)
