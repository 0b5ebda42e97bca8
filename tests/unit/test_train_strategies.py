"""Arguments of strategies on two ranks without Ray, and what is said of those that need a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from tests.sharded_model import Tokens, Transformer
from tests.two_ranks import fit_rank, on_ranks
from trainer_app.config import RunConfig, loads
from trainer_app.lightning_cli import check_code, check_parts
from trainer_app.training.strategies import mesh_sizes

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]
HERE = "tests.unit.test_train_strategies"
HOOK = "torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook"
DEEPSPEED = """
class_path: lightning.pytorch.strategies.DeepSpeedStrategy, init_args: {stage: 3, offload_optimizer: true,
offload_parameters: false, allgather_bucket_size: 5e8, reduce_bucket_size: 5e8}"""


class Unused(Transformer):
    """Has a layer that no loss depends on; notes the settings of torch's DDP."""

    made: ClassVar[dict[str, bool]] = {}

    def configure_model(self) -> None:
        super().configure_model()
        self.unused = nn.Linear(2, 2)

    def on_train_start(self) -> None:
        ddp: Any = self.trainer.strategy.model
        names = ("find_unused_parameters", "gradient_as_bucket_view", "static_graph")
        Unused.made = {name: getattr(ddp, name) for name in names}


def run_config(strategy: str, name: str = "Unused", module: str = HERE) -> RunConfig:
    return loads(
        f"""
seed_everything: 7
model: {{class_path: {module}.{name}}}
data: {{class_path: tests.sharded_model.Tokens}}
trainer: {{max_epochs: 1, logger: false, strategy: {{{strategy}}}}}
scaling: {{num_workers: 2}}
"""
    )


def fit_ddp(uri: str, args: str) -> tuple[int, list[str]]:
    """Do one rank's part of a fit; return how many epochs it did, and what is on in torch's DDP."""
    reports = fit_rank(run_config(f"class_path: DDPStrategy, init_args: {args}"), uri)
    return len(reports), sorted(name for name, on in Unused.made.items() if on)


@pytest.mark.parametrize(
    "args, made",
    [
        (
            "{find_unused_parameters: true, gradient_as_bucket_view: true}",
            ["find_unused_parameters", "gradient_as_bucket_view"],
        ),
        (
            f"{{static_graph: true, gradient_as_bucket_view: true, ddp_comm_hook: {HOOK}}}",
            ["gradient_as_bucket_view", "static_graph"],
        ),  # hooks: on GPUs only, as in Lightning
    ],
)
def test_ddps_arguments_reach_torch(tmp_path: Path, args: str, made: list[str]) -> None:
    assert on_ranks(2, fit_ddp, str(tmp_path), args) == [("returned", (1, made))] * 2


def test_without_find_unused_parameters_an_unused_one_is_named(tmp_path: Path) -> None:
    ends = on_ranks(2, fit_ddp, str(tmp_path), "{}")
    assert all(
        end == "raised" and "find_unused_parameters=True" in text.replace("_true", "=True") for end, text in ends
    )


@pytest.mark.parametrize(
    "data, tensor, world, sizes",
    [("auto", 1, 4, (4, 1)), ("auto", 2, 4, (2, 2)), (2, "auto", 4, (2, 2)), (4, 1, 4, (4, 1)), (1, 1, 4, (1, 1))],
)
def test_sizes_of_the_mesh(data: Any, tensor: Any, world: int, sizes: tuple[int, int]) -> None:
    assert mesh_sizes(data, tensor, world) == sizes


def test_deepspeed_with_the_documents_arguments_is_checked_and_said_to_need_a_gpu() -> None:
    config = run_config(DEEPSPEED, "Transformer", "tests.sharded_model")
    check_code(config)
    assert "DeepSpeedStrategy needs a GPU for each worker" in config.notes[-1]
    if not torch.cuda.is_available():
        (note,) = check_parts(config)
        assert note.startswith("trainer.strategy: can't be made on this machine, which has no GPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs cuda")
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_trains_on_a_gpu(tmp_path: Path, stage: int) -> None:
    from lightning.pytorch import Trainer
    from lightning.pytorch.strategies import DeepSpeedStrategy

    strategy = DeepSpeedStrategy(
        stage=stage, offload_optimizer=True, offload_parameters=False, allgather_bucket_size=500_000_000
    )
    trainer = Trainer(accelerator="gpu", devices=1, strategy=strategy, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(Transformer(), Tokens())
    assert trainer.global_step == 6
