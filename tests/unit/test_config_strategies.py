"""`trainer.strategy` from elsewhere: each name and class becomes Ray's, or is refused by key."""

from typing import Any

import pytest

from tests.unit.test_config_adopt import adopted, refused

pytestmark = pytest.mark.unit

DDP, FSDP = "ray.train.lightning.RayDDPStrategy", "ray.train.lightning.RayFSDPStrategy"
DEEPSPEED = "ray.train.lightning.RayDeepSpeedStrategy"
OFFLOAD = {"offload_optimizer": True, "offload_parameters": True}
NVME = {"remote_device": "nvme", "offload_params_device": "nvme", "offload_optimizer_device": "nvme"}
FSDP2 = "trainer_app.training.strategies.RayModelParallelStrategy"
UNUSED = {"find_unused_parameters": True}
USED = {"find_unused_parameters": False}
L = "lightning.pytorch.strategies"
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddp": (DDP, {}),
    "ddp_find_unused_parameters_true": (DDP, UNUSED),
    "ddp_find_unused_parameters_false": (DDP, USED),
    "ddp_spawn": (DDP, {}),
    "ddp_spawn_find_unused_parameters_true": (DDP, UNUSED),
    "ddp_spawn_find_unused_parameters_false": (DDP, USED),
    "ddp_fork": (DDP, {}),
    "ddp_fork_find_unused_parameters_true": (DDP, UNUSED),
    "ddp_fork_find_unused_parameters_false": (DDP, USED),
    "ddp_notebook": (DDP, {}),
    "ddp_notebook_find_unused_parameters_true": (DDP, UNUSED),
    "ddp_notebook_find_unused_parameters_false": (DDP, USED),
    "fsdp": (FSDP, {}),
    "fsdp_cpu_offload": (FSDP, {"cpu_offload": True}),
    "fsdp2": (FSDP2, {"data_parallel_size": "auto", "tensor_parallel_size": 1}),
    "deepspeed": (DEEPSPEED, {}),
    "deepspeed_stage_1": (DEEPSPEED, {"stage": 1}),
    "deepspeed_stage_2": (DEEPSPEED, {"stage": 2}),
    "deepspeed_stage_2_offload": (DEEPSPEED, {"stage": 2, "offload_optimizer": True}),
    "deepspeed_stage_3": (DEEPSPEED, {"stage": 3}),
    "deepspeed_stage_3_offload": (DEEPSPEED, {"stage": 3, **OFFLOAD}),
    "deepspeed_stage_3_offload_nvme": (DEEPSPEED, {"stage": 3, **OFFLOAD, **NVME}),
}
REFUSED_NAMES = {
    "single_tpu": "CPUs and NVIDIA GPUs",
    "single_xla": "CPUs and NVIDIA GPUs",
    "xla": "CPUs and NVIDIA GPUs",
    "xla_debug": "CPUs and NVIDIA GPUs",
    "dp": "unknown strategy",
    "horovod": "unknown strategy",
    "ddp_static_graph": "unknown strategy",
    "deepspeed_stage_4": "did you mean deepspeed_stage_",
    "dpp": "did you mean ddp?",
}


@pytest.mark.parametrize("name", NAMES)
def test_strategy_by_name(name: str) -> None:
    config = adopted(f"strategy: {name}")
    path, args = NAMES[name]
    assert config.trainer == {"strategy": {"class_path": path, "init_args": args}}
    needs = ("needs a GPU for each worker",) if path in (FSDP, DEEPSPEED) else ()
    assert config.notes[0] == f"run.yaml:2: trainer.strategy: {name} becomes {path}"
    assert len(config.notes) == 1 + len(needs) and config.notes[-1].endswith(needs or "Strategy")


@pytest.mark.parametrize("name", REFUSED_NAMES)
def test_strategy_refused_by_name(name: str) -> None:
    (line,) = refused(f"strategy: {name}").splitlines()
    assert line.startswith("run.yaml:2: trainer.strategy: ") and REFUSED_NAMES[name] in line


@pytest.mark.parametrize("strategy", ["auto", "null", "single_device", f"{{class_path: {L}.SingleDeviceStrategy}}"])
def test_no_strategy(strategy: str) -> None:
    config = adopted(f"strategy: {strategy}")
    assert (config.trainer, config.notes) == ({}, ())


@pytest.mark.parametrize(
    "class_path, becomes",
    [
        (f"{L}.DDPStrategy", DDP),
        (f"{L}.ddp.DDPStrategy", DDP),
        ("pytorch_lightning.strategies.DDPStrategy", DDP),
        ("DDPStrategy", DDP),
        (f"{L}.FSDPStrategy", FSDP),
        ("pytorch_lightning.strategies.FSDPStrategy", FSDP),
        (f"{L}.DeepSpeedStrategy", DEEPSPEED),
        (f"{L}.ModelParallelStrategy", FSDP2),
        ("DeepSpeedStrategy", DEEPSPEED),
        (DDP, DDP),
        (FSDP, FSDP),
        (DEEPSPEED, DEEPSPEED),
    ],
)
def test_strategy_by_class(class_path: str, becomes: str) -> None:
    given = f"{{class_path: {class_path}, init_args: {{a: 1, b: null}}, dict_kwargs: {{static_graph: true}}}}"
    args = {"a": 1, "b": None, "static_graph": True}
    assert adopted(f"strategy: {given}").trainer["strategy"] == {"class_path": becomes, "init_args": args}
    if "." in class_path:
        short = adopted(f"strategy: {class_path}").trainer["strategy"]
        assert short == {"class_path": becomes, "init_args": {}}


@pytest.mark.parametrize("name", ["fsdp", "deepspeed_stage_3", FSDP, f"{L}.DeepSpeedStrategy"])
def test_what_needs_gpus_is_refused_on_cpus(name: str) -> None:
    for blocks in ((f"strategy: {name}, accelerator: cpu", ""), (f"strategy: {name}", "scaling: {use_gpu: false}\n")):
        line = refused(*blocks)
        assert "trainer.strategy: needs a GPU for each worker" in line and "on CPUs ddp or fsdp2" in line
    assert "Strategy needs a GPU for each worker" in adopted(f"strategy: {name}").notes[-1]


def test_deepspeeds_sizes_may_be_written_as_its_pages_do() -> None:
    args = "stage: 3, offload_optimizer: true, offload_parameters: false"
    sizes = "allgather_bucket_size: 5e8, reduce_bucket_size: 5e8"
    config = adopted(f"strategy: {{class_path: {L}.DeepSpeedStrategy, init_args: {{{args}, {sizes}}}}}")
    found = config.trainer["strategy"]["init_args"]
    assert found["allgather_bucket_size"] == found["reduce_bucket_size"] == 500_000_000
    assert all(isinstance(found[key], int) for key in found) and found["offload_optimizer"] is True


def test_a_strategy_of_ones_own_stays() -> None:
    config = adopted("strategy: {class_path: my.pkg.DDPStrategy, init_args: {a: 1, timeout: 60}}")
    assert config.trainer["strategy"] == {"class_path": "my.pkg.DDPStrategy", "init_args": {"a": 1}}
    assert config.scaling.timeout_s == 60
    assert "must be a subclass of one of Ray's strategies" in config.notes[-1]


@pytest.mark.parametrize(
    "strategy, key, says",
    [
        (f"{{class_path: {L}.XLAStrategy}}", "", "CPUs and NVIDIA GPUs"),
        (f"{{class_path: {L}.SingleDeviceXLAStrategy}}", "", "CPUs and NVIDIA GPUs"),
        (f"{{class_path: {L}.Strategy}}", "", "base class"),
        (f"{{class_path: {L}.DDPSpawnStrategy}}", "", "unknown strategy"),
        ("{init_args: {}}", "", "a name, or class_path"),
        ("3", "", "a name, or class_path"),
        ("{class_path: DDPStrategy, args: {}}", ".args", "unknown key"),
        ("{class_path: DDPStrategy, init_args: [1]}", ".init_args", "mapping"),
        *[
            (f"{{class_path: DDPStrategy, init_args: {{{key}: {value}}}}}", f".init_args.{key}", says)
            for key, value, says in [
                ("start_method", "spawn", "Ray starts the worker processes"),
                ("start_method", "fork", "leave it out"),
                ("accelerator", "cpu", "scaling.use_gpu decides"),
                ("parallel_devices", "[0]", "its device"),
                ("checkpoint_io", "{class_path: a.B}", "committed by the run"),
                ("cluster_environment", "{class_path: a.SLURMEnvironment}", "Ray starts and places the workers"),
                ("cluster_environment", "{class_path: my.OwnEnvironment}", "Ray starts and places the workers"),
                ("cluster_environment", "slurm", "Ray starts and places the workers"),
                ("timeout", "soon", "is not a duration"),
                ("timeout", "-3", "is not a duration"),
                ("timeout", "true", "is not a duration"),
                ("timeout", "{class_path: a.B, init_args: {years: 1}}", "is not a duration"),
            ]
        ],
    ],
)
def test_strategy_refused(strategy: str, key: str, says: str) -> None:
    (line,) = refused(f"strategy: {strategy}").splitlines()
    assert line.startswith(f"run.yaml:2: trainer.strategy{key}: ") and says in line


def test_single_device_of_many_workers() -> None:
    assert "one device, but there are 4 workers" in refused("strategy: single_device, devices: 4")


@pytest.mark.parametrize(
    "timeout, seconds",
    [
        ("60", 60),
        ("1.5", 1.5),
        ("'0:30:00'", 1800),
        ("'01:00:30.5'", 3630.5),
        ("'1 day, 0:00:00'", 86400),
        ("'2 days, 1:00:00'", 176400),
        ("{class_path: datetime.timedelta, init_args: {minutes: 1, seconds: 30}}", 90),
        ("null", None),
    ],
)
def test_timeout_moves(timeout: str, seconds: float | None) -> None:
    config = adopted(f"strategy: {{class_path: DDPStrategy, init_args: {{timeout: {timeout}}}}}")
    assert config.scaling.timeout_s == seconds
    assert config.trainer["strategy"]["init_args"] == {}
    assert len(config.notes) == 1 + (seconds is not None)


def test_backend_moves_unless_scaling_has_one() -> None:
    strategy = "strategy: {class_path: FSDPStrategy, init_args: {process_group_backend: gloo, timeout: 60}}"
    config = adopted(strategy)
    assert (config.scaling.process_group_backend, config.scaling.timeout_s) == ("gloo", 60)
    assert any("gloo becomes scaling.process_group_backend: gloo" in note for note in config.notes)
    config = adopted(strategy, "scaling: {process_group_backend: nccl, timeout_s: 60}\n")
    assert (config.scaling.process_group_backend, config.scaling.timeout_s) == ("nccl", 60)
    assert any("gloo is not used: scaling.process_group_backend is nccl" in note for note in config.notes)


def test_strategy_as_lightningcli_saves_it() -> None:
    """All init_args written out: nulls and defaults are no wishes."""
    args = (
        "accelerator: null, parallel_devices: null, cluster_environment: null, checkpoint_io: null, "
        "precision_plugin: null, process_group_backend: null, timeout: '0:30:00', start_method: popen"
    )
    config = adopted(f"strategy: {{class_path: {L}.DDPStrategy, init_args: {{{args}}}}}")
    assert config.trainer["strategy"] == {"class_path": DDP, "init_args": {"precision_plugin": None}}
    assert config.scaling.timeout_s == 1800
