"""What a run settles once, and what a resumed run may have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest

from trainer_app.checkpoint import Manifest, write_commit
from trainer_app.config import RunConfig, loads, override
from trainer_app.errors import AlreadyExistsError, InputError, NotFoundError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.records.manifest import Schedule
from trainer_app.run import attempt, cluster, prepare
from trainer_app.storage import Store, open_store
from trainer_app.training import driver

pytestmark = pytest.mark.unit

HERE = "tests.unit.test_run_prepare"


class Model(L.LightningModule):
    def __init__(self, lr: float = 0.1, layer: int = 4) -> None:
        super().__init__()


class Data(L.LightningDataModule):
    """Settles where its data is, once."""

    def __init__(self, source: str = "auto", checksum: str | None = None, batch_size: int = 4) -> None:
        super().__init__()

    @classmethod
    def resolve_init_args(cls, init_args: dict[str, Any]) -> dict[str, Any]:
        if init_args.get("source", "auto") != "auto":
            return init_args
        return {**init_args, "source": "digits", "checksum": "abc"}


BASE = f"""
name: toy
model: {{class_path: {HERE}.Model, init_args: {{lr: 0.1}}}}
data: {{class_path: {HERE}.Data, init_args: {{batch_size: 8}}}}
trainer: {{max_epochs: 3}}
"""
SWEEP = """
tune:
  metric: val_acc
  mode: max
  num_samples: 4
  space:
    model.init_args.lr: {loguniform: [1.0e-4, 0.1]}
    model.init_args.layer: {choice: [4, 8]}
"""


def run_file(changes: dict[str, Any] | None = None, *, sweep: bool = False) -> RunConfig:
    return override(loads(BASE + (SWEEP if sweep else "")), changes or {})


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many GPUs the cluster states."""

    def give(count: int) -> None:
        monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", f'{{"CPU": 8, "GPU": {count}}}')

    give(0)
    return give


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def created(store: Store, config: RunConfig, *, name: str = "toy-1", task: str = "train") -> RunRecord:
    """A new run, as the verbs make it."""
    return attempt.open_run(store, config, name=name, resume=False, task=task, check=driver.check_scaling)[0].record


# --- settle


@pytest.mark.parametrize("given", [None, True])
@pytest.mark.parametrize(("variable", "seed"), [(None, 0), ("31", 31)])
def test_no_seed_is_lightnings_and_recorded(
    store: Store, monkeypatch: pytest.MonkeyPatch, given: Any, variable: str | None, seed: int
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", variable or "")
    if variable is None:
        monkeypatch.delenv("PL_GLOBAL_SEED")
    settled, chosen = prepare.resolve_choices(run_file({"seed_everything": given}))
    assert type(settled.seed_everything) is int and settled.seed_everything == chosen["seed_everything"] == seed
    record = created(store, run_file({"seed_everything": given}))
    stored = loads(RunFolder.open(store, "toy-1").read_config())
    assert record.seed == record.resolved["seed_everything"] == stored.seed_everything == seed
    assert L.seed_everything(workers=True, verbose=False) == seed


def test_a_variable_that_is_no_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "many")
    with pytest.raises(InputError, match=r"seed_everything: PL_GLOBAL_SEED is no seed \(found 'many'\)"):
        prepare.resolve_choices(run_file({"seed_everything": True}))


@pytest.mark.parametrize("given", [0, 7, 4294967295])
def test_a_given_seed_is_kept(store: Store, given: int) -> None:
    settled, chosen = prepare.resolve_choices(run_file({"seed_everything": given}))
    assert settled.seed_everything == given and "seed_everything" not in chosen
    assert created(store, run_file({"seed_everything": given})).seed == given


def test_no_seed_is_no_seed(store: Store) -> None:
    """`false` is LightningCLI's word for not seeding."""
    settled, chosen = prepare.resolve_choices(run_file({"seed_everything": False}))
    assert settled.seed_everything is False and "seed_everything" not in chosen
    assert created(store, run_file({"seed_everything": False})).seed is None


def test_the_datas_class_settles_its_choice() -> None:
    settled, chosen = prepare.resolve_choices(run_file({"seed_everything": 1}))
    assert settled.data is not None
    assert settled.data["init_args"] == {"batch_size": 8, "source": "digits", "checksum": "abc"}
    data = {key: value for key, value in chosen.items() if key.startswith("data.")}
    assert data == {"data.init_args.source": "digits", "data.init_args.checksum": "abc"}
    assert settled.model == run_file().model


def test_what_is_settled_already_stays() -> None:
    once, _ = prepare.resolve_choices(run_file())
    again, chosen = prepare.resolve_choices(once)
    assert again == once and chosen == {}
    explicit, chosen = prepare.resolve_choices(run_file({"seed_everything": 1, "data.init_args.source": "/data"}))
    assert explicit.data is not None and explicit.data["init_args"]["source"] == "/data"
    assert chosen.keys() == {"scaling.use_gpu"}


@pytest.mark.parametrize(
    "workers, each, have, use",
    [
        (1, None, 0, False),
        (1, None, 1, True),
        (2, None, 1, False),
        (2, None, 2, True),
        (2, 2.0, 4, True),
    ],
)
def test_auto_gpu_is_settled_by_what_the_cluster_states(
    gpus: Any, workers: int, each: float | None, have: int, use: bool
) -> None:
    gpus(have)
    wanted = {"scaling.num_workers": workers, **({"scaling.resources_per_worker": {"GPU": each}} if each else {})}
    settled, chosen = prepare.resolve_choices(run_file(wanted))
    assert settled.scaling.use_gpu is use and chosen["scaling.use_gpu"] is use


@pytest.mark.parametrize("given", [True, False])
def test_a_given_gpu_is_not_asked_for(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "max_resources", lambda: pytest.fail("nobody asked"))
    settled, chosen = prepare.resolve_choices(run_file({"scaling.use_gpu": given, "seed_everything": 1}))
    assert settled.scaling.use_gpu is given and "scaling.use_gpu" not in chosen


# --- create


def test_a_new_run_is_recorded(store: Store) -> None:
    record = created(store, run_file({"checkpoint.monitor": "val/loss", "checkpoint.mode": "min"}))
    assert (record.task, record.state, record.attempt, record.epochs) == ("train", "running", 1, 3)
    assert (record.metric, record.mode, record.num_samples, record.use_gpu) == ("val/loss", "min", None, False)
    assert record.created == record.updated > 1.7e9
    assert record.versions.keys() == set(prepare.VERSIONS) and all(record.versions.values())
    assert RunFolder.open(store, "toy-1").record == record


def test_a_sweep_goes_by_its_own_metric(store: Store) -> None:
    changes = {"checkpoint.monitor": "val/loss", "checkpoint.mode": "min"}
    record = created(store, run_file(changes, sweep=True), task="tune")
    assert (record.task, record.metric, record.mode, record.num_samples) == ("tune", "val_acc", "max", 4)


def test_the_record_of_a_sweep_counts_the_points_of_its_grid(store: Store) -> None:
    grid = {"tune.space": {"model.init_args.lr": {"grid_search": [0.1, 0.2, 0.3]}}}
    config = run_file(grid, sweep=True)
    assert created(store, config, task="tune").num_samples == 12
    reopened(store, override(config, {"tune.num_samples": 5}), task="tune")
    assert RunFolder.open(store, "toy-1").record.num_samples == 15
    endless = run_file({"tune.num_samples": -1, "tune.time_budget_s": 9.0}, sweep=True)
    assert created(store, endless, name="toy-2", task="tune").num_samples is None


def test_a_train_run_of_a_file_with_a_sweep(store: Store) -> None:
    record = created(store, run_file(sweep=True))
    assert (record.metric, record.mode, record.num_samples) == ("val_acc", "max", None)


@pytest.mark.parametrize(
    "trainer, epochs",
    [
        ({"max_epochs": 3}, 3),
        ({}, 1000),
        ({"max_steps": 10}, None),
        ({"max_epochs": -1}, None),
        ({"max_time": "00:01:00:00"}, None),
        ({"max_epochs": 2, "max_steps": 10}, 2),
        ({"fast_dev_run": True, "max_epochs": 9}, 1),
    ],
)
def test_target_epochs(trainer: dict[str, Any], epochs: int | None) -> None:
    assert prepare.target_epochs(run_file({"trainer": trainer})) == epochs


def test_a_name_is_taken_once(store: Store) -> None:
    prepare.check_name_free(store, "toy-1", task="train")
    created(store, run_file())
    prepare.check_name_free(store, "toy-2", task="train")
    with pytest.raises(AlreadyExistsError, match=r"run toy-1 exists in .*: trainer tune --resume toy-1") as refused:
        prepare.check_name_free(store, "toy-1", task="tune")
    assert refused.value.exit_code == 2
    with pytest.raises(AlreadyExistsError, match="toy-1"):
        created(store, run_file())


def test_the_job_holds_what_processes_need(store: Store) -> None:
    settled, chosen = prepare.resolve_choices(run_file())
    folder = prepare.create_run(store, settled, chosen, name="toy-1", task="train")
    spec = prepare.run_spec(folder, store, settled)
    assert (spec.run, spec.uri, spec.use_gpu, spec.versions) == ("toy-1", store.uri, False, folder.record.versions)
    assert spec.load() == settled
    assert spec.fit_folder().store.uri == f"{store.uri}/toy-1"
    assert spec.fit_folder("t00002").store.uri == f"{store.uri}/toy-1/trials/t00002"


# --- reopen


def reopened(store: Store, config: RunConfig, *, task: str = "train") -> RunConfig:
    return attempt.open_run(store, config, name="toy-1", resume=True, task=task, check=driver.check_scaling)[1]


def test_the_same_file_goes_on_with_what_was_settled(store: Store, gpus: Any) -> None:
    """Also on a cluster that has more GPUs by now: the data, the seed and the devices stay."""
    gpus(0)
    record = created(store, run_file())
    gpus(4)
    config = reopened(store, run_file())
    assert config == loads(RunFolder.open(store, "toy-1").read_config())
    assert config.seed_everything == record.seed and config.scaling.use_gpu is False
    assert config.data is not None and config.data["init_args"]["source"] == "digits"


@pytest.mark.parametrize("changes", [{"data.init_args.source": "auto"}, {"seed_everything": True}])
def test_a_file_that_leaves_the_choice_goes_on_with_what_was_chosen(store: Store, changes: dict[str, Any]) -> None:
    record = created(store, run_file(changes))
    config = reopened(store, run_file(changes))
    assert config.data is not None and config.data["init_args"]["source"] == "digits"
    assert config.seed_everything == record.seed


def test_without_a_file_the_stored_one_is_taken(store: Store) -> None:
    created(store, run_file())
    stored = loads(RunFolder.open(store, "toy-1").read_config())
    assert reopened(store, stored) == stored


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("train", {"model.init_args.lr": 0.2}, r"model\.init_args\.lr: 0\.1 in the run, 0\.2 now"),
    ("train", {"model.class_path": f"{HERE}.Other"}, r"model\.class_path: .*Model.* in the run, .*Other"),
    ("train", {"model.init_args.layer": 9}, r"model\.init_args\.layer: None in the run, 9 now"),
    ("train", {"data.init_args.batch_size": 16}, r"data\.init_args\.batch_size: 8 in the run, 16 now"),
    ("train", {"data.init_args.source": "/elsewhere"}, r"data\.init_args\.source: 'digits' in the run, '/elsewhere'"),
    ("train", {"seed_everything": 5}, r"seed_everything: \d+ in the run, 5 now"),
    ("train", {"seed_everything": 1}, r"seed_everything: \d+ in the run, 1 now"),
    ("train", {"trainer.precision": "16-mixed"}, r"trainer\.precision: None in the run, '16-mixed' now"),
    ("train", {"trainer.gradient_clip_val": 1.0}, r"trainer\.gradient_clip_val"),
    ("train", {"optimizer": {"class_path": "torch.optim.SGD"}}, r"optimizer\.class_path: None in the run"),
    ("tune", {"tune.space": {"model.init_args.lr": {"choice": [1]}}}, r"tune\.space\.model\.init_args\.lr"),
    ("tune", {"tune.metric": "loss"}, r"tune\.metric: 'val_acc' in the run, 'loss' now"),
    ("tune", {"tune.mode": "min"}, r"tune\.mode"),
    ("tune", {"tune.scheduler": "asha"}, r"tune\.scheduler"),
    ("tune", {"tune.searcher": {"random": {"seed": 4}}}, r"tune\.searcher\.random\.seed"),
]


class Other(Model):
    """Another model."""


@pytest.mark.parametrize("task, changes, said", REFUSED, ids=lambda v: next(iter(v)) if isinstance(v, dict) else "")
def test_another_run_file_is_refused_by_its_key(store: Store, task: str, changes: dict[str, Any], said: str) -> None:
    created(store, run_file(sweep=True), task=task)
    before = {e.key: e.modified for e in store.list()}
    with pytest.raises(InputError, match=said) as refused:
        reopened(store, override(run_file(sweep=True), changes), task=task)
    assert "run toy-1 was started with another run file" in str(refused.value) and "\n" not in str(refused.value)
    assert {e.key: e.modified for e in store.list()} == before


MAY: dict[str, Any] = {
    "name": "other-name",
    "weights_only": True,
    "storage.uri": "elsewhere",
    "failure.max_failures": 9,
    "checkpoint.keep": 5,
    "checkpoint.every_n_epochs": 2,
    "trainer.max_epochs": 10,
    "trainer.max_steps": 100,
    "trainer.max_time": "00:02:00:00",
    "scaling.num_workers": 2,
    "scaling.use_gpu": True,
    "scaling.resources_per_worker": {"CPU": 2.0},
    "tune.num_samples": 50,
    "tune.time_budget_s": 60.0,
    "tune.max_concurrent_trials": 2,
    "tune.resources_per_trial": {"CPU": 2.0},
}


@pytest.mark.parametrize("key", MAY)
def test_how_long_and_how_hard_to_try_may_change(store: Store, key: str, gpus: Any) -> None:
    created(store, run_file(sweep=True), task="tune")
    gpus(1)
    changed = override(run_file(sweep=True), {key: MAY[key]})
    config = reopened(store, changed, task="tune")
    found: Any = config.tree
    for part in key.split("."):
        found = found[part]
    assert found == MAY[key]
    assert prepare.flatten(config)["seed_everything"] == RunFolder.open(store, "toy-1").record.seed


def test_all_that_may_change_is_tried_above() -> None:
    tried = {
        allowed for allowed in prepare.MAY_CHANGE for key in MAY if key == allowed or key.startswith(f"{allowed}.")
    }
    assert set(prepare.MAY_CHANGE) == tried
    assert not prepare.may_change("trainer.max_epochs_of_mine") and not prepare.may_change("model")


def test_the_record_says_what_the_next_attempt_does(store: Store, gpus: Any) -> None:
    created(store, run_file())
    gpus(1)
    reopened(store, run_file({"trainer.max_epochs": 7, "scaling.use_gpu": True}))
    record = RunFolder.open(store, "toy-1").record
    assert (record.state, record.attempt, record.epochs, record.use_gpu) == ("running", 2, 7, True)


def test_what_was_changed_on_resume_stays_changed(store: Store) -> None:
    """The next resume may come without a file: it goes on towards the same end, and `test` loads what is allowed."""
    created(store, run_file())
    reopened(store, run_file({"trainer.max_epochs": 7, "checkpoint.allow": [f"{HERE}.Other"]}))
    stored = loads(RunFolder.open(store, "toy-1").read_config())
    assert (stored.max_epochs, stored.checkpoint.allow) == (7, [f"{HERE}.Other"])


def test_a_run_of_another_task(store: Store) -> None:
    created(store, run_file(sweep=True), task="tune")
    with pytest.raises(InputError, match="run toy-1 is a tune run; resume it with: trainer tune --resume toy-1"):
        reopened(store, run_file(sweep=True), task="train")


def test_a_run_that_is_not_there(store: Store) -> None:
    created(store, run_file(), name="toy-2")
    with pytest.raises(NotFoundError, match="toy-2"):
        reopened(store, run_file())


# --- flatten


def test_flatten() -> None:
    flat = prepare.flatten(run_file({"trainer.callbacks": [{"class_path": "a.B"}], "model.init_args.none": None}))
    assert flat["trainer.max_epochs"] == 3
    assert flat["model.init_args.lr"] == 0.1
    assert flat["trainer.callbacks"] == [{"class_path": "a.B"}]  # a list is a leaf
    assert "model.init_args.none" not in flat and "tune" not in flat and "ckpt_path" not in flat
    assert flat["checkpoint.keep"] == 2 and flat["storage.uri"] == "runs"
    assert not any(isinstance(value, dict) and value for value in flat.values())


def test_dotted_keys_of_the_space_are_told_apart() -> None:
    flat = prepare.flatten(run_file(sweep=True))
    assert flat["tune.space.model.init_args.lr.loguniform.lower"] == 1e-4
    assert flat["tune.space.model.init_args.layer.choice"] == [4, 8]


# --- a schedule that was made for a number of steps


def commit(store: Store, tmp_path: Path, *, total: int) -> None:
    """Commit 2 epochs of 8 steps of the run `toy-1`, under a OneCycleLR of `total` steps."""
    payload = tmp_path / "payload"
    payload.write_bytes(b"x")
    schedule = Schedule(name="OneCycleLR", done=16, total=total)
    manifest = Manifest(epochs=2, step=16, attempt=1, world_size=1, time=0.0, schedules=[schedule])
    write_commit(RunFolder.open(store, "toy-1").fit_folder().checkpoints, payload, manifest)


@pytest.mark.parametrize(
    "key, end, needed",
    [("trainer.max_epochs", 4, 32), ("trainer.max_epochs", 2, 16), ("trainer.max_steps", 17, 17)],
    ids=str,
)
def test_a_schedule_that_ends_before_the_run_is_refused(
    store: Store, tmp_path: Path, key: str, end: int, needed: int
) -> None:
    created(store, run_file({"trainer.max_epochs": 9 if key == "trainer.max_steps" else 1}))
    commit(store, tmp_path, total=16)
    changed = run_file({"trainer.max_epochs": 9, key: end})
    if needed <= 16:
        prepare.reopen_run(store, changed, name="toy-1", task="train")
        return
    with pytest.raises(InputError) as refused:
        prepare.reopen_run(store, changed, name="toy-1", task="train")
    text = str(refused.value)
    assert f"its OneCycleLR was made for 16 steps, {key}={end} takes {needed}" in text
    assert f"trainer train FILE {key}={end} weights={store.uri}/toy-1/checkpoints/a0001-e000002-s000000016" in text


def test_the_end_that_a_run_had_from_its_start_is_never_refused(store: Store, tmp_path: Path) -> None:
    """It may stop early by itself, as it may in plain Lightning."""
    created(store, run_file({"trainer.max_epochs": 9}))
    commit(store, tmp_path, total=16)
    prepare.reopen_run(store, run_file({"trainer.max_epochs": 9}), name="toy-1", task="train")
