"""Lightning 2.6.6's names as text, since importing it takes seconds. A unit test compares them with Lightning."""

from __future__ import annotations

from typing import Any

# Parameters of lightning.Trainer.__init__, with the plain types that can be checked without Lightning.
# "n" is null, which stands for the default everywhere.
TRAINER_KEYS: dict[str, str] = {
    "accelerator": "",
    "strategy": "",
    "devices": "",
    "num_nodes": "int",
    "precision": "",
    "logger": "",
    "callbacks": "",
    "fast_dev_run": "int bool",
    "max_epochs": "int",
    "min_epochs": "int",
    "max_steps": "int",
    "min_steps": "int",
    "max_time": "",
    "limit_train_batches": "int float",
    "limit_val_batches": "int float",
    "limit_test_batches": "int float",
    "limit_predict_batches": "int float",
    "overfit_batches": "int float",
    "val_check_interval": "",
    "check_val_every_n_epoch": "int",
    "num_sanity_val_steps": "int",
    "log_every_n_steps": "int",
    "enable_checkpointing": "bool",
    "enable_progress_bar": "bool",
    "enable_model_summary": "bool",
    "accumulate_grad_batches": "int",
    "gradient_clip_val": "int float",
    "gradient_clip_algorithm": "str",
    "deterministic": "",
    "benchmark": "bool",
    "inference_mode": "bool",
    "use_distributed_sampler": "bool",
    "profiler": "",
    "detect_anomaly": "bool",
    "barebones": "bool",
    "plugins": "",
    "sync_batchnorm": "bool",
    "reload_dataloaders_every_n_epochs": "int",
    "default_root_dir": "str",
    "enable_autolog_hparams": "bool",
    "model_registry": "str",
}

# Lightning's StrategyRegistry: name -> class and the arguments that the name stands for. start_method left out:
# Ray starts the workers.
_DDP: dict[str, dict[str, Any]] = {
    "": {},
    "_find_unused_parameters_false": {"find_unused_parameters": False},
    "_find_unused_parameters_true": {"find_unused_parameters": True},
}
_OFFLOAD = {"offload_optimizer": True, "offload_parameters": True}
_NVME = dict.fromkeys(("remote_device", "offload_params_device", "offload_optimizer_device"), "nvme")
_LAUNCHERS = ("", "_fork", "_notebook", "_spawn")
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("", {}),
    **{f"ddp{launcher}{end}": ("DDPStrategy", args) for launcher in _LAUNCHERS for end, args in _DDP.items()},
    "deepspeed": ("DeepSpeedStrategy", {}),
    "deepspeed_stage_1": ("DeepSpeedStrategy", {"stage": 1}),
    "deepspeed_stage_2": ("DeepSpeedStrategy", {"stage": 2}),
    "deepspeed_stage_2_offload": ("DeepSpeedStrategy", {"stage": 2, "offload_optimizer": True}),
    "deepspeed_stage_3": ("DeepSpeedStrategy", {"stage": 3}),
    "deepspeed_stage_3_offload": ("DeepSpeedStrategy", {"stage": 3, **_OFFLOAD}),
    "deepspeed_stage_3_offload_nvme": ("DeepSpeedStrategy", {"stage": 3, **_OFFLOAD, **_NVME}),
    "fsdp": ("FSDPStrategy", {}),
    "fsdp2": ("ModelParallelStrategy", {"data_parallel_size": "auto", "tensor_parallel_size": 1}),  # ours
    "fsdp_cpu_offload": ("FSDPStrategy", {"cpu_offload": True}),
    "single_device": ("SingleDeviceStrategy", {}),
    "single_tpu": ("SingleTPUStrategy", {}),
    "single_xla": ("SingleDeviceXLAStrategy", {}),
    "xla": ("XLAStrategy", {}),
    "xla_debug": ("XLAStrategy", {}),
}

RAY_STRATEGIES = {
    "DDPStrategy": "ray.train.lightning.RayDDPStrategy",
    "FSDPStrategy": "ray.train.lightning.RayFSDPStrategy",
    "DeepSpeedStrategy": "ray.train.lightning.RayDeepSpeedStrategy",
    "ModelParallelStrategy": "trainer_app.training.strategies.RayModelParallelStrategy",
}
NEED_GPUS = ("FSDPStrategy", "DeepSpeedStrategy")
_NO_TPU = "Ray's strategies for Lightning run on CPUs and NVIDIA GPUs"
REFUSED_STRATEGIES = {
    "ParallelStrategy": "it is a base class",
    "Strategy": "it is a base class",
    "SingleTPUStrategy": _NO_TPU,
    "SingleDeviceXLAStrategy": _NO_TPU,
    "XLAStrategy": _NO_TPU,
}

# Arguments of a strategy that the run decides. Null and Lightning's default are dropped, others refused.
REFUSED_STRATEGY_ARGS: dict[str, tuple[tuple[Any, ...], str]] = {
    "start_method": (("popen",), "Ray starts the worker processes"),
    "accelerator": ((), "scaling.use_gpu decides"),
    "parallel_devices": ((), "Ray gives each worker its device"),
    "checkpoint_io": ((), "checkpoints are committed by the run, which would not know when this one has written"),
}

OUR_ENVIRONMENTS = ("LightningEnvironment", "RayLightningEnvironment")
OTHER_ENVIRONMENTS = (
    "SLURMEnvironment",
    "TorchElasticEnvironment",
    "KubeflowEnvironment",
    "LSFEnvironment",
    "MPIEnvironment",
    "XLAEnvironment",
)
OTHER_CHECKPOINT_IO = ("AsyncCheckpointIO", "XLACheckpointIO")
# Of ray.train.lightning and ray.tune.integration.pytorch_lightning.
REPORT_CALLBACKS = ("RayTrainReportCallback", "TuneReportCheckpointCallback", "TuneReportCallback")
