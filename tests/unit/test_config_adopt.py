"""A YAML from elsewhere: what each of Trainer's launching arguments becomes here, and what is refused, by key."""

import pytest

from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import ConfigError

pytestmark = pytest.mark.unit


def adopted(trainer: str, more: str = "") -> RunConfig:
    config = loads(f"model: {{class_path: a.Net}}\ntrainer: {{{trainer}}}\n{more}")
    assert not {"devices", "num_nodes", "accelerator"} & set(config.trainer)
    again = loads(dump(config))
    assert again == config
    return config


def refused(trainer: str, more: str = "") -> str:
    with pytest.raises(ConfigError) as error:
        loads(f"model: {{class_path: a.Net}}\ntrainer: {{{trainer}}}\n{more}")
    return str(error.value)


@pytest.mark.parametrize(
    "trainer, workers",
    [
        ("devices: 4", 4),
        ("devices: 4, num_nodes: 2", 8),
        ("devices: 1", 1),
        ("devices: [0, 1, 3]", 3),
        ("devices: [2]", 1),
        ("devices: '1,2'", 2),
        ("devices: '2'", 2),
        ("devices: '2,'", 1),
        ("devices: auto", 1),
        ("devices: -1", 1),
        ("devices: '-1'", 1),
        ("devices: null", 1),
        ("num_nodes: 1", 1),
        ("max_epochs: 1", 1),
    ],
)
def test_devices_become_workers(trainer: str, workers: int) -> None:
    config = adopted(trainer)
    assert config.scaling.num_workers == workers
    given = "devices" in trainer and "null" not in trainer
    assert [note.startswith("run.yaml:2: trainer.devices: ") for note in config.notes] == [True] * given


def test_devices_by_number_and_by_word() -> None:
    assert adopted("devices: 4, num_nodes: 2").notes == (
        "run.yaml:2: trainer.devices: 4 x num_nodes 2 becomes scaling.num_workers: 8",
    )
    assert "is not used: scaling.num_workers says how many" in adopted("devices: auto").notes[0]


def test_scaling_says_otherwise() -> None:
    config = adopted("devices: 4, num_nodes: 2", "scaling: {num_workers: 2}\n")
    assert config.scaling.num_workers == 2
    assert config.notes == ("run.yaml:2: trainer.devices: 4 x num_nodes 2 is not used: scaling.num_workers is 2",)
    assert adopted("devices: auto, num_nodes: 2", "scaling: {num_workers: 2}\n").notes == ()
    assert adopted("devices: 2", "scaling: {num_workers: 2}\n").notes == ()


@pytest.mark.parametrize(
    "trainer, key, says",
    [
        ("devices: 0", "trainer.devices", "at least 1"),
        ("devices: -2", "trainer.devices", "at least 1"),
        ("devices: []", "trainer.devices", "indices"),
        ("devices: [0, 0]", "trainer.devices", "twice"),
        ("devices: [a]", "trainer.devices", "indices"),
        ("devices: many", "trainer.devices", "can't be read"),
        ("devices: 1.5", "trainer.devices", "can't be read"),
        ("devices: true", "trainer.devices", "at least 1"),
        ("devices: {a: 1}", "trainer.devices", "can't be read"),
        ("num_nodes: 0", "trainer.num_nodes", "at least 1"),
        ("num_nodes: two", "trainer.num_nodes", "must be an integer"),
        ("num_nodes: 2", "trainer.num_nodes", "set scaling.num_workers"),
        ("devices: auto, num_nodes: 2", "trainer.num_nodes", "set scaling.num_workers"),
        *[(f"accelerator: {a}", "trainer.accelerator", "CPUs or NVIDIA GPUs") for a in ("tpu", "mps", "hpu", "xla")],
        ("accelerator: {class_path: a.B}", "trainer.accelerator", "allowed: auto, cpu, gpu, cuda"),
    ],
)
def test_devices_refused(trainer: str, key: str, says: str) -> None:
    (line,) = refused(trainer).splitlines()
    assert line.startswith(f"run.yaml:2: {key}: ") and says in line


@pytest.mark.parametrize(
    "accelerator, scaling, use_gpu, notes",
    [
        ("gpu", "", True, 1),
        ("cuda", "", True, 1),
        ("cpu", "", False, 1),
        ("auto", "", "auto", 0),
        ("null", "", "auto", 0),
        ("gpu", "scaling: {use_gpu: false}", False, 1),
        ("cpu", "scaling: {use_gpu: auto}", "auto", 1),
        ("gpu", "scaling: {use_gpu: true}", True, 0),
    ],
)
def test_accelerator_becomes_use_gpu(accelerator: str, scaling: str, use_gpu: object, notes: int) -> None:
    config = adopted(f"accelerator: {accelerator}", scaling)
    assert config.scaling.use_gpu == use_gpu
    assert len(config.notes) == notes


@pytest.mark.parametrize(
    "path",
    [
        "ray.train.lightning.RayTrainReportCallback",
        "ray.tune.integration.pytorch_lightning.TuneReportCheckpointCallback",
        "ray.tune.integration.pytorch_lightning.TuneReportCallback",
    ],
)
def test_rays_report_callbacks_are_ours(path: str) -> None:
    stop = "{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: x}}"
    config = adopted(f"callbacks: [{{class_path: {path}, init_args: {{metrics: x}}}}, {stop}]")
    assert [item["class_path"].rpartition(".")[2] for item in config.trainer["callbacks"]] == ["EarlyStopping"]
    assert config.notes == (f"run.yaml:2: trainer.callbacks.0: {path} is replaced by the run's own",)
    for alone in (f"[{path}]", f"{{class_path: {path}}}", path):
        assert adopted(f"callbacks: {alone}").trainer == {}


def test_a_callback_of_the_same_name_stays() -> None:
    config = adopted("callbacks: [{class_path: my.RayTrainReportCallback}, EarlyStopping]")
    assert config.trainer["callbacks"] == [{"class_path": "my.RayTrainReportCallback"}, "EarlyStopping"]
    assert config.notes == ()


@pytest.mark.parametrize(
    "plugins, kept, notes",
    [
        ("null", None, 0),
        ("[{class_path: lightning.pytorch.plugins.environments.LightningEnvironment}]", None, 1),
        ("{class_path: pytorch_lightning.plugins.environments.LightningEnvironment}", None, 2),
        ("[{class_path: ray.train.lightning.RayLightningEnvironment}, {class_path: my.Plugin}]", ["my.Plugin"], 1),
        ("[{class_path: my.Plugin}]", ["my.Plugin"], 0),
    ],
)
def test_plugins(plugins: str, kept: list[str] | None, notes: int) -> None:
    config = adopted(f"plugins: {plugins}")
    found = config.trainer.get("plugins")
    assert (found and [item["class_path"] for item in found]) == kept
    assert len(config.notes) == notes


@pytest.mark.parametrize(
    "name", ["SLURM", "TorchElastic", "Kubeflow", "LSF", "MPI", "XLA"], ids=lambda name: f"{name}Environment"
)
def test_other_environments_refused(name: str) -> None:
    plugins = f"[{{class_path: lightning.pytorch.plugins.environments.{name}Environment}}]"
    (line,) = refused(f"plugins: {plugins}").splitlines()
    assert line.startswith("run.yaml:2: trainer.plugins.0: Ray starts and places the workers")


def test_async_checkpoints_refused() -> None:
    assert "trainer.plugins.0: checkpoints are committed" in refused(
        "plugins: [{class_path: lightning.pytorch.plugins.io.AsyncCheckpointIO}]"
    )


def test_lightnings_classes_under_its_first_name() -> None:
    text = """\
model:
  class_path: my.pytorch_lightning.Net
  init_args:
    net: {class_path: pytorch_lightning.demos.boring_classes.BoringModel}
    note: pytorch_lightning.is.fine
trainer:
  callbacks:
  - class_path: pytorch_lightning.callbacks.EarlyStopping
  - pytorch_lightning.callbacks.DeviceStatsMonitor
"""
    config = loads(text)
    assert config.trainer["callbacks"] == [
        {"class_path": "lightning.pytorch.callbacks.EarlyStopping"},
        "lightning.pytorch.callbacks.DeviceStatsMonitor",
    ]
    assert config.model is not None
    assert config.model["class_path"] == "my.pytorch_lightning.Net"
    assert config.model["init_args"]["note"] == "pytorch_lightning.is.fine"
    assert [note.partition(" ")[0] for note in config.notes] == ["run.yaml:4:", "run.yaml:8:", "run.yaml:9:"]
    assert all("is read as lightning.pytorch." in note for note in config.notes)


def test_other_arguments_stay() -> None:
    kept = {
        "fast_dev_run": False,
        "overfit_batches": 0.1,
        "max_time": "00:01:00:00",
        "inference_mode": False,
        "use_distributed_sampler": False,
        "sync_batchnorm": True,
        "enable_checkpointing": False,
        "logger": True,
        "precision": "16-mixed",
        "deterministic": "warn",
        "barebones": False,
    }
    config = override(loads("model: {class_path: a.Net}\n"), {f"trainer.{key}": value for key, value in kept.items()})
    assert (config.trainer, config.notes) == (kept, ())


def test_barebones_is_remarked() -> None:
    assert "no metrics" in adopted("barebones: true").notes[0]


def test_a_trainer_class_of_a_cli_has_arguments_of_its_own() -> None:
    config = loads("cli: a:B\ntrainer: {zzz: 1}\n")
    assert config.trainer == {"zzz": 1} and "left to the cli's own trainer class" in config.notes[0]
    with pytest.raises(ConfigError, match="did you mean max_epochs"):
        loads("cli: a:B\ntrainer: {max_epoch: 1}\n")


def test_rules_see_what_was_adopted() -> None:
    sweep = "tune: {metric: m, mode: min, scheduler: hyperband, space: {model.init_args.lr: {choice: [1]}}}\n"
    line = refused("devices: 2", sweep)
    assert line.startswith("run.yaml:3: tune.scheduler.hyperband: ") and "2 workers" in line
