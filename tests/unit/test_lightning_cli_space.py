"""What a sweep may draw, checked against the code before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from tests.unit.cli_projects.pieces import Net
from tests.unit.lightning_cli_config import PROJECTS
from trainer_app.config import Primitive, RunConfig, load
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import check_code, check_space, space_check
from trainer_app.lightning_cli.space_check import possible_values

pytestmark = pytest.mark.unit

HERE = "tests.unit.test_lightning_cli_space"
NET = f"{PROJECTS}.pieces.Net"


class Wide(Net):
    """With an argument that Net lacks."""

    def __init__(
        self, batch_size: int, rate: float = 0.1, kind: Literal["a", "b"] = "a", sizes: list[int] | None = None
    ) -> None:
        super().__init__(batch_size)


def draw(drawn: dict[str, Any]) -> Any:
    return 3


RUN_FILE = f"""\
model:
  class_path: {PROJECTS}.pieces.Net
  init_args: {{batch_size: 4, width: 8}}
data: {{class_path: {PROJECTS}.pieces.Data, init_args: {{batch_size: 4}}}}
trainer: {{max_epochs: 1, accelerator: cpu, logger: false}}
tune:
  metric: loss
  mode: min
  space:
    data.init_args.seed: {{randint: [0, 9]}}
"""


def config(tmp_path: Path, *space: str, scheduler: str = "asha", cli: str = "") -> RunConfig:
    """With more lines in the space; the first of them is line 11."""
    text = RUN_FILE + "".join(f"    {line}\n" for line in space) + f"  scheduler: {scheduler}\n{cli}"
    (tmp_path / "run.yaml").write_text(text)
    return load([tmp_path / "run.yaml"])


def refused(given: RunConfig) -> list[str]:
    check_code(given)  # without the space all is well
    with pytest.raises(ConfigError) as raised:
        check_space(given)
    return [str(p).replace(str(p.file), Path(p.file).name) for p in raised.value.problems]


@pytest.mark.parametrize(
    "space",
    [
        ["model.init_args.width: {choice: [4, 8, 16]}", "model.init_args.lr: {loguniform: [1e-4, 0.1]}"],
        ["model.init_args.width: {qrandint: [4, 16, 4]}", "data.init_args.batch_size: {grid_search: [2, 4]}"],
        ["model.init_args.lr: {sample_from: 'tests.unit.test_lightning_cli_space:draw'}"],
        ["model.init_args.lr: {randn: [0.5, 0.1]}", "trainer.gradient_clip_val: {choice: [null, 0.5, 1]}"],
        [
            f"model.class_path: {{choice: [{NET}, {HERE}.Wide]}}",
            "model.init_args.batch_size: {choice: [2]}",
        ],
        [f"model.class_path: {{choice: [{HERE}.Wide]}}", "model.init_args.rate: {uniform: [0, 1]}"],
        [
            f"model.class_path: {{choice: [{NET}, {HERE}.Wide]}}",
            "model.init_args.rate: {uniform: [0, 1]}",
        ],
    ],
    ids=str,
)
def test_a_space_that_fits(tmp_path: Path, space: list[str]) -> None:
    given = config(tmp_path, *space)
    if "class_path" in space[0]:
        given = given.model_copy(update={"model": {**(given.model or {}), "init_args": {"batch_size": 4}}})
    check_space(given)


TABLE = [
    (
        "model.init_args.widht: {choice: [4, 8]}",
        "unknown argument of Net; allowed: batch_size, lr, num_classes, width; did you mean width?",
    ),
    ("model.init_args.width: {choice: [4, wide, 8]}", "wrong type or value (found 'wide'); expected int"),
    ("model.init_args.width: {grid_search: [4.5]}", "wrong type or value (found 4.5); expected int"),
    ("model.init_args.width: {uniform: [1, 9]}", "expected int"),
    ("model.init_args.width: {quniform: [2, 8, 2]}", "expected int"),
    ("model.init_args.width: {randn: [0, 1]}", "expected int"),
    ("data.init_args.shuffle: {choice: [true]}", "unknown argument of Data"),
    ("model.class_path: {choice: [nowhere.Net]}", "no module named 'nowhere'"),
    (f"model.class_path: {{choice: [{PROJECTS}.pieces.Net, {PROJECTS}.pieces.Data]}}", "is not a LightningModule"),
    ("model.init_args.nope: {sample_from: 'tests.unit.test_lightning_cli_space:draw'}", "unknown argument of Net"),
    ("model.init_args.lr: {sample_from: 'tests.unit.test_lightning_cli_space:drew'}", "has no 'drew'"),
    ("trainer.precision: {choice: [32, 8]}", "(found 8)"),
    ("trainer.max_epochs: {choice: [1, many]}", "(found 'many')"),
    (
        "optimizer.init_args.lr: {uniform: [0.1, 0.2]}",
        "optimizer.class_path: is missing; class_path: package.module.Class",
    ),
]


@pytest.mark.parametrize(("line", "says"), TABLE, ids=[line for line, _ in TABLE])
def test_a_value_that_does_not_fit_is_refused_by_key_file_and_line(tmp_path: Path, line: str, says: str) -> None:
    problems = refused(config(tmp_path, line))
    assert all(p.startswith(f"run.yaml:11: tune.space.{line.partition(':')[0]}: ") for p in problems), problems
    assert len(problems) == (3 if "uniform: [1, 9]" in line else 3 if "quniform" in line else 1), problems
    assert says in problems[0]


def test_all_that_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    problems = refused(
        config(tmp_path, "model.init_args.a: {choice: [1]}", "model.init_args.width: {choice: [x, y, 4]}")
    )
    assert [p.split(": ")[:2] for p in problems] == [
        ["run.yaml:11", "tune.space.model.init_args.a"],
        ["run.yaml:12", "tune.space.model.init_args.width"],
        ["run.yaml:12", "tune.space.model.init_args.width"],
    ]


def test_an_argument_of_none_of_the_classes_that_are_drawn(tmp_path: Path) -> None:
    classes = f"model.class_path: {{choice: [{PROJECTS}.pieces.Net, {PROJECTS}.pieces.SelfFed]}}"
    (problem,) = refused(config(tmp_path, classes, "model.init_args.rate: {uniform: [0, 1]}"))
    assert problem.startswith("run.yaml:12: tune.space.model.init_args.rate: unknown argument of Net")


def test_mutations_of_pbt_are_checked_too(tmp_path: Path) -> None:
    scheduler = "{pbt: {mutations: {model.init_args.width: [4, 4.5]}}}"
    (problem,) = refused(config(tmp_path, scheduler=scheduler))
    assert problem.startswith("run.yaml:11: tune.scheduler.pbt.mutations.model.init_args.width: wrong type or value")


def test_the_space_of_a_cli(tmp_path: Path) -> None:
    blocks = """\
cli: tests.unit.cli_projects.factory:make_cli
model: {width: 6, batch_size: 4}
tune:
  metric: loss
  mode: min
  space:
    model.width: {choice: [4, 8]}
    model.wide: {choice: [4, 8]}
    data.batch_size: {choice: [few]}
"""
    (tmp_path / "run.yaml").write_text(blocks)
    problems = refused(load([tmp_path / "run.yaml"]))
    assert [p.split(": ")[:2] for p in problems] == [
        ["run.yaml:8", "tune.space.model.wide"],
        ["run.yaml:9", "tune.space.data.batch_size"],
    ]


@pytest.mark.parametrize(
    ("primitive", "values"),
    [
        ({"randint": [2, 9]}, [2, 8]),
        ({"lograndint": [2, 9]}, [2, 8]),
        ({"qrandint": [2, 8, 2]}, [2, 8]),
        ({"quniform": [0, 1, 0.5]}, [0, 1, 0.5]),
        ({"choice": [1, "a", None]}, [1, "a", None]),
    ],
    ids=str,
)
def test_the_values_that_are_tried(primitive: dict[str, Any], values: list[Any]) -> None:
    assert possible_values(Primitive.model_validate(primitive)) == values


def test_a_space_that_fits_takes_a_parse_for_each_value_of_the_longest_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"model.init_args.{name}: {{choice: [1, 2, 3, 4]}}" for name in ("width", "num_classes", "batch_size")]
    parsed: list[RunConfig] = []

    def counted(given: RunConfig) -> None:
        parsed.append(given)
        check_code(given)

    monkeypatch.setattr(space_check, "check_code", counted)
    check_space(config(tmp_path, *lines))
    assert len(parsed) == 4  # of 45 ms; there are 64 combinations


def test_what_the_code_refuses_has_file_and_line(tmp_path: Path) -> None:
    given = config(tmp_path)
    (tmp_path / "run.yaml").write_text(
        RUN_FILE.replace("width: 8", "widht: 8").replace("max_epochs: 1", "precision: 7")
    )
    with pytest.raises(ConfigError) as raised:
        check_code(load([tmp_path / "run.yaml"], ["data.class_path=nowhere.Data"]))
    found = {p.key: (Path(p.file).name, p.line) for p in raised.value.problems}
    assert found == {
        "model.init_args.widht": ("run.yaml", 3),
        "trainer.precision": ("run.yaml", 5),
        "data.class_path": ("command line", None),
    }
    check_code(given)
