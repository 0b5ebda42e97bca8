"""The run file's blocks as Ray's classes; and what the controller's modules import."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from tests.unit.tree import ROOT
from trainer_app.config import RunConfig, loads
from trainer_app.errors import InputError
from trainer_app.run import cluster
from trainer_app.run.spec import RunSpec
from trainer_app.training import ray_trainer
from trainer_app.training.failures import RunFailurePolicy
from trainer_app.tuning import sweep

pytestmark = pytest.mark.unit

JOB = RunSpec(run="mnist-1", uri="runs", config="", use_gpu=False)


def run_file(text: str = "") -> RunConfig:
    return loads(f"model: {{class_path: a.Model}}\n{text}\n")


# a block of the run file; which of Ray's objects it goes to; the fields there
FIELDS: list[tuple[str, Callable[[RunConfig], Any], dict[str, Any]]] = [
    (
        "scaling: {use_gpu: false}",
        ray_trainer.scaling_config,
        {
            "num_workers": 1,
            "use_gpu": False,
            "resources_per_worker": {"CPU": 1.0},
            "accelerator_type": None,
            "placement_strategy": "PACK",
            "num_gpus_per_worker": 0,
        },
    ),
    ("scaling: {num_workers: 3}", ray_trainer.scaling_config, {"num_workers": 3}),
    (
        "scaling: {use_gpu: true}",
        ray_trainer.scaling_config,
        {"use_gpu": True, "resources_per_worker": {"CPU": 1.0, "GPU": 1.0}, "num_gpus_per_worker": 1},
    ),
    (
        "scaling: {use_gpu: true, resources_per_worker: {CPU: 4}}",
        ray_trainer.scaling_config,
        {"resources_per_worker": {"CPU": 4.0, "GPU": 1.0}},
    ),
    (
        "scaling: {use_gpu: true, resources_per_worker: {GPU: 2, disk: 0.5}}",
        ray_trainer.scaling_config,
        {"resources_per_worker": {"CPU": 1.0, "GPU": 2.0, "disk": 0.5}},
    ),
    (
        "scaling: {use_gpu: false, resources_per_worker: {CPU: 0.5}}",
        ray_trainer.scaling_config,
        {"resources_per_worker": {"CPU": 0.5}},
    ),
    (
        "scaling: {use_gpu: true, accelerator_type: A100}",
        ray_trainer.scaling_config,
        {"accelerator_type": "A100", "resources_per_worker": {"CPU": 1.0, "GPU": 1.0}},
    ),
    *[
        (
            f"scaling: {{use_gpu: false, placement_strategy: {strategy}}}",
            ray_trainer.scaling_config,
            {"placement_strategy": strategy},
        )
        for strategy in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
    ],
    (
        "",
        ray_trainer.checkpoint_config,
        {"num_to_keep": 2, "checkpoint_score_attribute": None, "checkpoint_score_order": "max"},
    ),
    ("checkpoint: {keep: 5}", ray_trainer.checkpoint_config, {"num_to_keep": 5}),
    ("checkpoint: {keep: null}", ray_trainer.checkpoint_config, {"num_to_keep": None}),
    (
        "checkpoint: {monitor: val/loss, mode: min}",
        ray_trainer.checkpoint_config,
        {"checkpoint_score_attribute": "val/loss", "checkpoint_score_order": "min"},
    ),
    (
        "checkpoint: {monitor: val_acc, mode: max}",
        ray_trainer.checkpoint_config,
        {"checkpoint_score_attribute": "val_acc", "checkpoint_score_order": "max"},
    ),
    ("", ray_trainer.failure_config, {"max_failures": 3, "controller_failure_limit": -1}),
    ("failure: {max_failures: 0}", ray_trainer.failure_config, {"max_failures": 0}),
    ("failure: {max_failures: -1}", ray_trainer.failure_config, {"max_failures": -1}),
    ("failure: {controller_failure_limit: 7}", ray_trainer.failure_config, {"controller_failure_limit": 7}),
    ("", ray_trainer.torch_config, {"backend": None, "timeout_s": 1800}),
    ("scaling: {process_group_backend: gloo}", ray_trainer.torch_config, {"backend": "gloo"}),
    ("scaling: {timeout_s: 90}", ray_trainer.torch_config, {"timeout_s": 90}),
]


@pytest.mark.parametrize("text, make, fields", FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_field_has_its_place(text: str, make: Callable[[RunConfig], Any], fields: dict[str, Any]) -> None:
    made = make(run_file(text))
    assert {name: getattr(made, name) for name in fields} == fields


@pytest.mark.parametrize("seconds", [0.5, 1, 90.7])
def test_a_short_timeout_is_not_none_at_all(seconds: float) -> None:
    """torch takes a timedelta; 0 seconds would end every collective operation at once."""
    given = ray_trainer.torch_config(run_file(f"scaling: {{timeout_s: {seconds}}}")).timeout_s
    assert seconds <= timedelta(seconds=given).total_seconds() < seconds + 1


def test_what_is_reserved_does_not_change_the_run_file() -> None:
    config = run_file("scaling: {use_gpu: true, resources_per_worker: {CPU: 2}}")
    config.scaling.worker_resources["CPU"] = 99
    assert config.scaling.resources_per_worker == {"CPU": 2.0}


def test_a_trial_keeps_the_best_by_the_metric_of_the_sweep() -> None:
    sweep = "tune: {metric: val/acc, mode: max, space: {model.init_args.lr: {uniform: [0, 1]}}}"
    config = run_file(f"checkpoint: {{monitor: val/loss, mode: min}}\n{sweep}")
    kept = {task: ray_trainer.checkpoint_config(config, task=task) for task in ("train", "tune")}
    names = {task: (made.checkpoint_score_attribute, made.checkpoint_score_order) for task, made in kept.items()}
    assert names == {"train": ("val/loss", "min"), "tune": ("val/acc", "max")}


def test_ray_keeps_its_own_files_in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = run_file("checkpoint: {keep: 4}\nfailure: {max_failures: 1}\nstorage: {uri: s3://bucket/prefix}")
    callbacks = [ray.train.UserCallback()]
    made = ray_trainer.run_config(config, JOB, callbacks)
    assert made.name == "mnist-1"
    assert Path(str(made.storage_path)).parent == tmp_path and Path(str(made.storage_path)).is_dir()
    assert made.checkpoint_config.num_to_keep == 4 and made.failure_config.max_failures == 1
    assert made.callbacks == callbacks
    other = ray_trainer.run_config(config, JOB, [], trial="t00001")
    assert other.name == "train-trial_id=t00001" and other.storage_path != made.storage_path


def trainer(trial: str | None = None) -> ray_trainer.RunTrainer:
    return ray_trainer.RunTrainer(
        lambda config: None,
        spec=JOB,
        trial=trial,
        train_loop_config={},
        scaling_config=ray_trainer.scaling_config(run_file("scaling: {use_gpu: false}")),
        run_config=ray_trainer.run_config(run_file("failure: {max_failures: 4}"), JOB, []),
    )


def test_the_controller_gets_our_failure_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    given: dict[str, Any] = {}
    monkeypatch.setattr(DataParallelTrainer, "_initialize_and_run_controller", lambda self, **kw: given.update(kw))
    trainer("t00002")._initialize_and_run_controller(failure_policy="Ray's", callbacks=[])
    policy = given["failure_policy"]
    assert isinstance(policy, RunFailurePolicy) and given["callbacks"] == []
    assert (policy.spec, policy.trial, policy.failure_config.max_failures) == (JOB, "t00002", 4)


def test_all_of_rays_callbacks_but_the_cleaner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = trainer()
    rays = DataParallelTrainer._create_default_callbacks(mine)
    dropped = {type(c) for c in rays} - {type(c) for c in mine._create_default_callbacks()}
    assert dropped == {PlacementGroupCleanerCallback}


@pytest.mark.parametrize("answers", [True, False])
def test_ctrl_c_aborts_the_workers_and_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """A controller that doesn't answer is killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done: list[str] = []

    class Abort:
        def remote(self) -> str:
            done.append("abort")
            return "reference"

    class Controller:
        abort = Abort()

    controller = Controller()

    def interrupted(self: Any) -> None:
        self._register_sigint_handler(controller)
        raise KeyboardInterrupt

    def wait(references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        done.append(f"waited {references} {timeout}")
        return (references, []) if answers else ([], references)

    killed: list[object] = []
    monkeypatch.setattr(DataParallelTrainer, "fit", interrupted)
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "kill", killed.append)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit()
    assert done == ["abort", "waited ['reference'] 5"]
    assert killed == ([] if answers else [controller])


CONTROLLER_SIDE = (
    "ray_compat",
    "training.ray_trainer",
    "training.relay",
    "training.failures",
    "run.spec",
    "tuning.nested",
    "tuning.placement_groups",
)
NO_LIGHTNING = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("lightning", "pytorch_lightning", "lightning_fabric"):
            raise ImportError(name + " takes 2.5 s of a core")
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.startswith(("lightning.", "pytorch_lightning."))]
print("imported", len(sys.argv) - 1)
"""


def test_the_controllers_modules_import_no_lightning() -> None:
    run = subprocess.run(
        [sys.executable, "-c", NO_LIGHTNING, *(f"trainer_app.{name}" for name in CONTROLLER_SIDE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["imported", str(len(CONTROLLER_SIDE))]


def test_a_trial_of_one_worker_asks_for_its_kind_of_gpu_as_rays_workers_do() -> None:
    space = "tune: {metric: m, mode: max, space: {model.init_args.a: {choice: [1]}}}"
    config = run_file(f"scaling: {{use_gpu: true, accelerator_type: A100}}\n{space}")
    asked = ray_trainer.scaling_config(config)._resources_per_worker_not_none
    assert {**config.scaling.worker_resources, **ray_trainer.accelerator(config)} == asked
    trainable, _ = sweep.make_trainable(config, JOB, None)
    assert trainable._resources.bundles == [{"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001}]
    plain, _ = sweep.make_trainable(run_file(f"scaling: {{use_gpu: true}}\n{space}"), JOB, None)
    assert plain._resources.bundles == [{"CPU": 1.0, "GPU": 1.0}]


def test_a_kind_of_gpu_that_this_ray_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_file("scaling: {accelerator_type: A100}")
    wanted = {**config.scaling.worker_resources, **ray_trainer.accelerator(config)}
    monkeypatch.setattr(cluster, "max_resources", lambda: {"CPU": 4.0})
    with pytest.raises(InputError, match="accelerator_type:A100 at once but this Ray has 0"):
        cluster.check_feasible(wanted, 1, "a trial needs")
    monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", '{"CPU": 4}')  # of pools, which are not up yet
    cluster.check_feasible(wanted, 1, "a trial needs")
