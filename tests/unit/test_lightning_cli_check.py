"""What check() says about blocks that are wrong: the key, and what to do."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lightning_cli_config import PROJECTS, form1, run_config
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import build_parts, check_code, importing

pytestmark = pytest.mark.unit

GONE = object()
PIECES = f"{PROJECTS}.pieces"
STOP: dict[str, Any] = {
    "class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "loss"}
}  # fmt: skip
CSV = "lightning.pytorch.loggers.CSVLogger"
SGD = "torch.optim.SGD"

# (dotted key to change, its value, key that the problem names, part of the line)
TABLE: list[tuple[str, Any, str, str]] = [
    ("model", GONE, "model", "required, and missing"),
    ("model.class_path", "nowhere.Net", "model.class_path", "PYTHONPATH"),
    ("model.class_path", f"{PIECES}.Nat", "model.class_path", "has no 'Nat'"),
    ("model.class_path", "Nat", "model.class_path", "is not the name of a known class"),
    ("model.class_path", 5, "model.class_path", "is not the name of a known class"),
    ("model.class_path", "a-b.C", "model.class_path", "not an import path"),
    ("model.class_path", f"{PIECES}.Data", "model.class_path", "is not a LightningModule"),
    ("model.class_path", f"{PIECES}.loader", "model.class_path", "is not a LightningModule"),
    ("model.class_path", GONE, "model", "class_path is missing"),
    ("model.init_args.widht", 3, "model.init_args.widht",
     "Net; allowed: batch_size, lr, num_classes, width; did you mean width?"),
    ("model.init_args.xyz", 3, "model.init_args.xyz", "allowed: batch_size, lr, num_classes, width"),
    ("model.init_args.width", "wide", "model.init_args.width", "(found 'wide'); expected int"),
    ("model.init_args.width", [1], "model.init_args.width", "expected int"),
    ("model.init_args.batch_size", GONE, "model.init_args.batch_size", "Net requires this argument"),
    ("model.init_args", 5, "model.init_args", "must be a mapping (found 5); allowed keys: batch_size, num_classes"),
    ("model.extra", 1, "model.extra", "allowed: class_path, init_args, dict_kwargs"),
    ("data.class_path", "torch.nn.Linear", "data.class_path", "is not a LightningDataModule"),
    ("data.init_args.batch", 3, "data.init_args.batch", "did you mean batch_size?"),
    ("data.init_args.seed", 0.5, "data.init_args.seed", "expected int"),
    ("trainer.max_epoch", 1, "trainer.max_epoch", "did you mean max_epochs?"),
    ("trainer.max_epochs", "x", "trainer.max_epochs", "expected int or null"),
    ("trainer.precision", "8", "trainer.precision", "bf16-mixed"),
    ("trainer.gradient_clip_val", "big", "trainer.gradient_clip_val", "expected float or int or null"),
    ("trainer.callbacks", 3, "trainer.callbacks", "expected"),
    ("trainer.callbacks", [{**STOP, "class_path": "x.Y"}], "trainer.callbacks.0.class_path", "no module named 'x'"),
    ("trainer.callbacks", [STOP, {**STOP, "init_args": {}}], "trainer.callbacks.1.init_args.monitor", "requires"),
    ("trainer.callbacks", [{**STOP, "init_args": {"monitor": "l", "patiense": 1}}],
     "trainer.callbacks.0.init_args.patiense", "did you mean patience?"),
    ("trainer.callbacks", [{**STOP, "init_args": {"monitor": "l", "patience": "p"}}],
     "trainer.callbacks.0.init_args.patience", "expected int"),
    ("trainer.callbacks", [{"class_path": f"{PIECES}.Net"}], "trainer.callbacks.0.class_path", "is not a Callback"),
    ("trainer.callbacks", [{"init_args": {"monitor": "l"}}], "trainer.callbacks.0", "class_path is missing"),
    ("trainer.callbacks", [{"class_path": "pytorch_lightning.callbacks.EarlyStopping"}],
     "trainer.callbacks.0.class_path", "write lightning.pytorch.callbacks.EarlyStopping"),
    ("trainer.logger", {"class_path": CSV}, "trainer.logger.init_args.save_dir", "requires"),
    ("trainer.logger", [{"class_path": CSV, "init_args": {"save_dir": "x", "nam": "y"}}],
     "trainer.logger.0.init_args.nam", "did you mean name?"),
    ("trainer.strategy", {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"static": 1}},
     "trainer.strategy.init_args.static", "unknown argument of DDPStrategy"),
    ("optimizer", {"class_path": SGD, "init_args": {"lrr": 1}}, "optimizer.init_args.lrr", "did you mean lr?"),
    ("optimizer", {"class_path": SGD, "init_args": {"lr": "fast"}}, "optimizer.init_args.lr", "expected float"),
    ("optimizer", {"class_path": SGD, "init_args": {"params": 1}}, "optimizer.init_args.params", "unknown argument"),
    ("optimizer", {"class_path": "torch.optim.SDG"}, "optimizer.class_path", "has no 'SDG'"),
    ("optimizer", {"class_path": "torch.nn.Linear"}, "optimizer.class_path", "is not a Optimizer"),
    ("lr_scheduler", {"class_path": "torch.optim.lr_scheduler.StepLR"}, "lr_scheduler.init_args.step_size", "requires"),
    ("lr_scheduler", {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "lr_scheduler.class_path",
     "lightning.pytorch.cli.ReduceLROnPlateau"),
]  # fmt: skip


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    blocks = form1()
    for dotted, value in changes:
        *parents, leaf = dotted.split(".")
        into = blocks
        for parent in parents:
            into = into[parent]
        if value is GONE:
            del into[leaf]
        else:
            into[leaf] = copy.deepcopy(value)
    return blocks


@pytest.mark.parametrize(("key", "value", "named", "says"), TABLE, ids=[f"{t[0]}-{i}" for i, t in enumerate(TABLE)])
def test_a_wrong_key_is_named(key: str, value: Any, named: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        check_code(run_config(changed((key, value))))
    (problem,) = raised.value.problems
    assert problem.key == named
    assert says in str(problem)
    assert len(str(raised.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")


def test_build_refuses_what_check_refuses() -> None:
    with pytest.raises(ConfigError, match=r"model\.init_args\.widht"):
        build_parts(run_config(changed(("model.init_args.widht", 3))))


def test_all_problems_at_once() -> None:
    wrong = changed(
        ("model.init_args.widht", 3), ("model.init_args.width", "w"), ("model.init_args.batch_size", GONE),
        ("data.class_path", "nowhere.D"), ("trainer.max_epoch", 1), ("trainer.precision", "8"),
        ("trainer.callbacks", [{**STOP, "init_args": {}}, STOP, {"class_path": f"{PIECES}.Net"}]),
        ("optimizer", {"class_path": SGD, "init_args": {"lrr": 1}}),
    )  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        check_code(run_config(wrong))
    assert sorted(p.key for p in raised.value.problems) == [
        "data.class_path",
        "model.init_args.batch_size",
        "model.init_args.widht",
        "model.init_args.width",
        "optimizer.init_args.lrr",
        "trainer.callbacks.0.init_args.monitor",
        "trainer.callbacks.2.class_path",
        "trainer.max_epoch",
        "trainer.precision",
    ]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for user code, which is where modules are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def refusal(class_path: str) -> str:
    with pytest.raises(ConfigError) as raised:
        check_code(run_config(form1(model={"class_path": class_path}, data=None)))
    (problem,) = raised.value.problems
    assert problem.key == "model.class_path"
    return str(problem)


def test_what_user_code_prints_goes_to_stderr(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (beside / "t_prints.py").write_text(f"from {PIECES} import SelfFed\nprint('hello')\n")
    check_code(run_config(form1(model={"class_path": "t_prints.SelfFed"}, data=None)))
    assert capsys.readouterr() == ("", "hello\n")


def test_a_class_within_a_class_of_a_module_not_yet_imported(beside: Path) -> None:
    (beside / "t_pack").mkdir()
    (beside / "t_pack/mod.py").write_text(f"from {PIECES} import SelfFed\nclass Outer:\n  class Mine(SelfFed): pass\n")
    assert "no 'Nine'" in refusal("t_pack.mod.Outer.Nine")
    assert "no module named 't_pack.mob'" in refusal("t_pack.mob.Mine")


def test_import_from_is_named_if_no_run_file_has_a_folder(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `trainer test RUN`; `trainer validate FILE` has no such option."""
    monkeypatch.setattr(importing, "_FOLDERS", [])
    monkeypatch.delenv("TRAINER_FOLDERS", raising=False)
    assert "no module named 'nowhere'; is its folder" in (text := refusal("nowhere.Net"))
    assert text.endswith("If not, name it: --import-from DIR")
    monkeypatch.setattr(importing, "_FOLDERS", [str(beside)])
    assert "--import-from" not in refusal("nowhere.Net")


def test_modules_in_the_working_directory_are_found(beside: Path) -> None:
    (beside / "t_found.py").write_text(f"from {PIECES} import SelfFed\nclass Mine(SelfFed): pass\n")
    parts = build_parts(run_config(form1(model={"class_path": "t_found.Mine"}, data=None)))
    assert type(parts.model).__name__ == "Mine"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\nraise ValueError('no\\nGPU')", "raised ValueError: no GPU (@:2)"),
        ("import json\njson.loads('{')", "@:2)"),
        ("import t_no_such_package", "No module named 't_no_such_package' (@:1); install it"),
        ("def f(:\n  pass", "SyntaxError: invalid syntax (@:1)"),
        ("import sys\nsys.exit(3)", "SystemExit: the user's code called sys.exit(3) (@:2); guard"),
    ],
    ids=["raises", "in a library", "import", "syntax", "exit"],
)
def test_user_code_that_raises_at_import(beside: Path, source: str, says: str, request: Any) -> None:
    name = "t_raises_" + request.node.callspec.id.replace(" ", "_")
    (beside / f"{name}.py").write_text(source)
    assert says.replace("@", f"{name}.py") in refusal(f"{name}.Model")


def test_a_module_built_on_pytorch_lightning_says_what_to_change(beside: Path) -> None:
    (beside / "t_old.py").write_text(
        "import pytorch_lightning as pl\nfrom pytorch_lightning.cli import LightningCLI\n"
        "class Old(pl.LightningModule): pass\n"
        "class OldCLI(LightningCLI): pass\n"
        "def make(): return LightningCLI(Old)\n"
    )
    assert "`import lightning.pytorch as pl` instead of `import pytorch_lightning as pl`" in refusal("t_old.Old")
    for target in ("t_old:OldCLI", "t_old:make"):
        with pytest.raises(ConfigError, match="pytorch_lightning") as raised:
            check_code(run_config({}, cli=target))
        assert [p.key for p in raised.value.problems] == ["cli"]
