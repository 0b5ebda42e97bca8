"""The run file's types. LightningCLI's blocks stay raw: LightningCLI itself checks them against the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from trainer_app.config.fields import (
    AllowedClass,
    Block,
    Name,
    Resources,
    Seed,
    Tag,
    UseGpu,
    Weights,
    WeightsOrPath,
    check_uri,
    refusal,
)
from trainer_app.config.find import Find
from trainer_app.config.tuning import Tune
from trainer_app.errors import ConfigError, Problem

LIGHTNING_BLOCKS = ("seed_everything", "model", "data", "trainer", "optimizer", "lr_scheduler")
# What Lightning 2.6 does when neither max_epochs nor max_steps is given.
LIGHTNING_MAX_EPOCHS = 1000


def count_epochs(trainer: dict[str, Any]) -> int:
    """Return the epochs by Lightning's rules, -1 for no end. Values of another type are ignored."""
    if trainer.get("fast_dev_run"):
        return 1
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    if isinstance(epochs, int) and (epochs > 0 or epochs == -1):
        return epochs
    return LIGHTNING_MAX_EPOCHS if steps in (None, -1) and trainer.get("max_time") is None else -1


class Scaling(Block):
    """How many workers, and the resources of each. Names as in `ray.train.ScalingConfig` and `TorchConfig`."""

    num_workers: int = Field(1, ge=1, description="Processes that train together.")
    use_gpu: UseGpu = Field("auto", description="One GPU a worker; auto: if the cluster has one.")
    resources_per_worker: Resources | None = Field(None, description="Ray resources of a worker: CPU, GPU, custom.")
    accelerator_type: str | None = Field(None, min_length=1, description="Kind of GPU, for example A100.")
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = Field(
        "PACK", description="Workers on few nodes or on many."
    )
    timeout_s: float | None = Field(None, gt=0, description="Seconds that a collective operation may take.")
    process_group_backend: str | None = Field(None, min_length=1, description="torch.distributed's: nccl, gloo.")

    @property
    def worker_resources(self) -> dict[str, float]:
        """Ray resources of one worker."""
        return self.fill_resources(self.resources_per_worker)

    def fill_resources(self, resources: Mapping[str, float] | None) -> dict[str, float]:
        """Return resources with a CPU, and a GPU with `use_gpu`, unless they give these amounts themselves."""
        return {"CPU": 1.0, **({"GPU": 1.0} if self.use_gpu is True else {}), **(resources or {})}


class Checkpoint(Block):
    """Which checkpoints are kept. The newest, which a resume needs, is always kept."""

    keep: int | None = Field(2, ge=1, description="Checkpoints kept; null for all.")
    monitor: str | None = Field(
        None,
        min_length=1,
        description="Metric that decides which are best in a train run; in a sweep it is tune.metric.",
    )
    mode: Literal["min", "max"] | None = Field(None, description="Whether a smaller or larger one is better.")
    every_n_epochs: int = Field(1, ge=1, description="Epochs between two checkpoints.")
    allow: list[AllowedClass] = Field(
        default_factory=list, description="Classes, by import path, that a checkpoint may hold beside plain data."
    )


class Failure(Block):
    """Retries and waiting. Names as in `ray.train.FailureConfig`; `storage_timeout_s` is ours."""

    max_failures: int = Field(3, ge=-1, description="Failures of workers that are retried; -1 for any number.")
    controller_failure_limit: int = Field(-1, ge=-1, description="The same of the controller; -1 for any number.")
    storage_timeout_s: float = Field(
        600.0, ge=0, allow_inf_nan=False, description="For how long a run waits for a storage that does not answer."
    )


class Storage(Block):
    """Where runs are written."""

    uri: Annotated[str, AfterValidator(check_uri)] = Field(
        "runs", description="A folder, s3://bucket/prefix or file:///folder. No credentials: they come from AWS_*."
    )
    artifact_files: int = Field(1000, ge=0, description="Files that a train run or a trial writes and that are kept.")
    artifact_gib: float = Field(2.0, ge=0, description="How large they are together, in GiB; the smallest come first.")
    report: bool = Field(True, description="Write report.html, the run's page, beside it.")


class RunConfig(Block):
    """A run file: LightningCLI's blocks unchanged, and ours.

    `notes` and the lines of the keys come from loading; they are not in `dump` and do not count for equality.
    """

    name: Name | None = Field(None, description="Name of the runs; the time is appended.")
    tags: list[Tag] = Field(default_factory=list, max_length=20, description="Words by which `trainer ui` finds runs.")
    cli: str | None = Field(None, description="Your LightningCLI: package.module:class_or_factory or path/to/main.py.")
    seed_everything: Seed = Field(
        None, description="Seed of the run; if not given, the LightningCLI's: 0 unless it sets another."
    )
    model: dict[str, Any] | None = Field(None, description="LightningModule: class_path and init_args.")
    data: dict[str, Any] | None = Field(None, description="LightningDataModule: class_path and init_args.")
    trainer: dict[str, Any] = Field(default_factory=dict, description="Arguments of lightning.Trainer.")
    optimizer: dict[str, Any] | None = Field(None, description="Optimizer: class_path and init_args.")
    lr_scheduler: dict[str, Any] | None = Field(None, description="Schedule: class_path and init_args.")
    ckpt_path: str | None = Field(None, description="Checkpoint to start from, a path or a URI: all of its state.")
    weights_only: bool | None = Field(None, description="How torch loads ckpt_path; null is torch's own default.")
    weights: WeightsOrPath | None = Field(
        None, description="Checkpoint whose weights alone are loaded, as path or {path, strict}."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="With cli: arguments that it adds.")
    scaling: Scaling = Field(default_factory=Scaling, description="Workers and their resources.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="Which checkpoints are kept.")
    failure: Failure = Field(default_factory=Failure, description="How often a run is retried.")
    storage: Storage = Field(default_factory=Storage, description="Where runs are written.")
    find: Find | None = Field(None, description="What is found before a train run: batch size, learning rate.")
    tune: Tune | None = Field(None, description="A sweep.")

    _notes: tuple[str, ...] = PrivateAttr(default=())
    _sweep_notes: frozenset[str] = PrivateAttr(default=frozenset())
    _lines: dict[str, tuple[str, int | None]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _cli(self) -> RunConfig:
        if self.arguments and self.cli is None:
            raise refusal("arguments go with cli only")
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that was read as something else."""
        return self._notes

    def notes_of(self, task: str) -> list[str]:
        """Return the notes for a task: those about the sweep are for `tune` only."""
        return [note for note in self._notes if task == "tune" or note not in self._sweep_notes]

    @property
    def lightning(self) -> dict[str, Any]:
        """A copy of what `LightningCLI(args=...)` takes: its own blocks, and the arguments that a `cli` adds."""
        blocks = {name: getattr(self, name) for name in LIGHTNING_BLOCKS}
        given = {name: value for name, value in blocks.items() if value is not None}
        return deepcopy({**given, **self.arguments})

    @property
    def tree(self) -> dict[str, Any]:
        """A copy of the run file as plain values, as `dump` writes it; loading it gives an equal config."""
        values = self.model_dump()
        arguments = values.pop("arguments")
        clashing = {name: value for name, value in arguments.items() if name in type(self).model_fields}
        empty: dict[str, Any] = {"trainer": {}, "arguments": {}}
        tree = {**values, "arguments": clashing}
        given = {name: value for name, value in tree.items() if value != empty.get(name)}
        return deepcopy({**given, **{name: value for name, value in arguments.items() if name not in clashing}})

    @property
    def max_epochs(self) -> int:
        """Epochs of a run: -1 for no end, 1 in a fast_dev_run."""
        return count_epochs(self.trainer)

    def selection_metric(self, task: str) -> tuple[str | None, Literal["min", "max"] | None]:
        """Return the (metric, mode) that decides which trial and which checkpoint is best, and which are kept.

        In a sweep (`task` is tune) it is `tune.metric`, whatever `checkpoint.monitor` says: the best checkpoint of the
        best trial is kept. In a train run it is `checkpoint.monitor`, or `tune.metric` if only that is given.
        """
        if self.tune is not None and (task == "tune" or self.checkpoint.monitor is None):
            return self.tune.metric, self.tune.mode
        return self.checkpoint.monitor, self.checkpoint.mode

    @property
    def has_nested_trials(self) -> bool:
        """Whether a trial has workers of its own."""
        return self.scaling.num_workers > 1

    @property
    def trial_resources(self) -> dict[str, float]:
        """Ray resources of one trial: of all its workers, or of the one process it is."""
        scaling = self.scaling
        if self.has_nested_trials:
            return {name: each * scaling.num_workers for name, each in scaling.worker_resources.items()}
        per_trial = self.tune.resources_per_trial if self.tune else None
        return scaling.fill_resources(per_trial or scaling.resources_per_worker)

    @contextmanager
    def locate_problems(self) -> Iterator[None]:
        """Give the problems raised inside the file and line of their key.

        Raises:
            ConfigError: the one raised inside, with the lines.
        """
        try:
            yield
        except ConfigError as e:
            raise ConfigError([self._locate(problem) for problem in e.problems]) from e

    def _locate(self, problem: Problem) -> Problem:
        parts = [] if problem.file else problem.key.split(".")
        for size in range(len(parts), 0, -1):
            file, line = self._lines.get(".".join(parts[:size]), ("", None))
            if file:
                return replace(problem, file=file, line=line)
        return problem

    def with_lines(self, lines: Mapping[tuple[str, ...], tuple[str, int | None]]) -> RunConfig:
        """Return a copy that knows the file and 1-based line of each key."""
        copy = self.model_copy()
        copy._lines = {".".join(path): at for path, at in lines.items()}
        return copy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunConfig) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    def with_notes(self, notes: Iterable[str], sweep: Iterable[str] = ()) -> RunConfig:
        """Return a copy with these notes, each once; `sweep` are those of them that are about the sweep."""
        copy = self.model_copy()
        copy._notes = tuple(dict.fromkeys(notes))
        copy._sweep_notes = self._sweep_notes.union(sweep)
        return copy


_OWN: dict[str, type[Block]] = {
    "scaling": Scaling,
    "checkpoint": Checkpoint,
    "failure": Failure,
    "storage": Storage,
    "find": Find,
    "tune": Tune,
    "weights": Weights,
}
# The run's own blocks with the keys of each: a LightningCLI may have arguments of the same names.
OWN_BLOCKS = {name: tuple(block.model_fields) for name, block in _OWN.items()}
