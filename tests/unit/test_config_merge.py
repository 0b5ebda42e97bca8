"""Several files, dotted overrides, and which file or line a problem names."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_config import FULL, model
from trainer_app.config import dump, load, loads, override, require_tune
from trainer_app.errors import ConfigError

pytestmark = pytest.mark.unit


def write(folder: Path, **texts: str) -> list[Path]:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return [folder / f"{name}.yaml" for name in texts]


def test_files_merge_in_order(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        base=model(
            "trainer: {max_epochs: 5, logger: {class_path: a.L, init_args: {x: 1}}, callbacks: [{class_path: a.C}]}\n"
        ),
        more="trainer: {max_epochs: 2, precision: 16, callbacks: []}\nmodel: {init_args: {lr: 9}}\n",
        last="trainer: {logger: {init_args: {y: 2}}}\nscaling:\n",
    )
    config = load(files, ["trainer.max_steps=3"])
    logger = {"class_path": "a.L", "init_args": {"x": 1, "y": 2}}
    expected = {"max_epochs": 2, "precision": 16, "max_steps": 3, "callbacks": [], "logger": logger}
    assert config.trainer == expected
    assert config.model == {"class_path": "a.Net", "init_args": {"lr": 9, "w": [1, 2]}}


def test_a_key_with_a_plus_appends(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        base=model("trainer: {callbacks: [{class_path: a.A}]}\n"),
        more="trainer: {callbacks+: {class_path: a.B}}\n",
        last="trainer:\n  callbacks+:\n  - class_path: a.C\n  - class_path: 7\n",
    )
    with pytest.raises(ConfigError, match=r"last.yaml:4: trainer\.callbacks\.3: must be a class_path"):
        load(files)
    kept = load(files[:2], ["trainer.callbacks+={class_path: a.D}", "trainer.callbacks.0.class_path=a.E"])
    assert [c["class_path"] for c in kept.trainer["callbacks"]] == ["a.E", "a.B", "a.D"]
    alone = load(write(tmp_path, one=model("trainer: {callbacks+: [{class_path: a.B}]}\n")))
    assert alone.trainer == {"callbacks": [{"class_path": "a.B"}]}
    left = load(write(tmp_path, one=model("cli: a:b\nwords+: [1]\n"), two="words+: 2\n"))
    assert left.arguments == {"words+": [1, 2]} and loads(dump(left)) == left
    assert load(write(tmp_path, two="words: [5]\n", one=model("cli: a:b\nwords+: [1]\n"))).arguments == {
        "words": [5, 1]
    }


def test_another_class_drops_the_first_ones_arguments(tmp_path: Path) -> None:
    config = load(write(tmp_path, a=model(), b="model: {class_path: a.Other, init_args: {z: 1}}\n"))
    assert config.model == {"class_path": "a.Other", "init_args": {"z": 1}}
    assert any("replaces a.Net and its init_args" in note for note in config.notes)
    same = load(write(tmp_path, a=model(), b="model: {class_path: a.Net, init_args: {z: 1}}\n"))
    assert same.lightning["model"]["init_args"] == {"lr": 0.1, "w": [1, 2], "z": 1}


def test_problems_name_the_file_that_has_the_key(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        a=model("scaling: {num_workers: two}\ntrainer:\n  max_epoch: 1\n"),
        b="\nscaling: {num_workers: three, use_gpus: 1}\n\nfailure: {max: 1}\n",
    )
    with pytest.raises(ConfigError) as refused:
        load(files, ["checkpoint.keeep=1"])
    places = [(Path(p.file).name, p.line, p.key) for p in refused.value.problems]
    assert places == [
        ("a.yaml", 4, "trainer.max_epoch"),
        ("b.yaml", 2, "scaling.num_workers"),
        ("b.yaml", 2, "scaling.use_gpus"),
        ("b.yaml", 4, "failure.max"),
        ("command line", None, "checkpoint.keeep"),
    ]


def test_files_that_are_none(tmp_path: Path) -> None:
    good, latin, big = tmp_path / "good.yaml", tmp_path / "latin.yaml", tmp_path / "big.yaml"
    good.write_text(model("trainer: {max_epoch: 1}\n"))
    latin.write_bytes(b"# caf\xe9\n" + model().encode())
    big.write_text("#" * (1 << 20) + "\n" + model())
    with pytest.raises(ConfigError) as refused:
        load([tmp_path / "nope.yaml", tmp_path, latin, big, good])
    found = [(p.key.removeprefix(f"{tmp_path}/"), p.message) for p in refused.value.problems]
    assert found[0] == ("nope.yaml", "no such file")
    assert found[1] == (str(tmp_path), "is a directory")
    assert found[2][0] == "latin.yaml" and "not UTF-8: byte 0xe9 in line 1" in found[2][1]
    assert found[3] == ("big.yaml", "is larger than 1048576 bytes")
    assert len(found) == 4  # nothing else is told while parts are missing
    with pytest.raises(ConfigError, match="no run file"):
        load([])


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + model("trainer:\n  max_epochs: 3\n").replace("\n", "\r\n").encode())
    assert load([file]).trainer == {"max_epochs": 3}


@pytest.mark.parametrize(
    "change, where, value",
    [
        ("trainer.max_epochs=1", "trainer.max_epochs", 1),
        ("trainer.limit_val_batches=1e-1", "trainer.limit_val_batches", 0.1),
        ("trainer.default_root_dir=a=b", "trainer.default_root_dir", "a=b"),
        ("model.init_args.lr=", "model.init_args.lr", None),
        ("model.init_args.w.1=9", "model.init_args.w", [1, 9]),
        ("model.init_args.new.deep={a: [1]}", "model.init_args.new", {"deep": {"a": [1]}}),
        ("storage.uri=s3://bucket/x", "storage.uri", "s3://bucket/x"),
        ("scaling.num_workers=3", "scaling.num_workers", 3),
        ("data=a.Data", "data", {"class_path": "a.Data"}),
        ("trainer.callbacks=[{class_path: a.B}]", "trainer.callbacks.0.class_path", "a.B"),
    ],
)
def test_overrides(change: str, where: str, value: object) -> None:
    found: Any = loads(model(), overrides=[change]).tree
    for part in where.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert found == value


def test_later_overrides_win_and_see_earlier_ones() -> None:
    overrides = [
        "trainer.callbacks=[{class_path: a.B}]",
        "trainer.callbacks.0.init_args.p=1",
        "trainer.callbacks.0.init_args.p=2",
    ]
    assert loads(model(), overrides=overrides).trainer["callbacks"] == [{"class_path": "a.B", "init_args": {"p": 2}}]


def test_overrides_of_a_sweep() -> None:
    config = loads(
        FULL,
        overrides=[
            "tune.space.model.init_args.lr={uniform: [0, 1]}",
            "tune.space.data.init_args.batch_size.quniform.upper=8",
            "tune.space.model.init_args.new={choice: [1]}",
            "tune.scheduler.asha.max_t=3",
            "tune.searcher=random",
        ],
    )
    tune = require_tune(config)
    assert tune.space["model.init_args.lr"].kind == "uniform"
    assert tune.space["data.init_args.batch_size"].args["upper"] == 8
    assert tune.space["model.init_args.new"].args == {"categories": [1]}
    assert (tune.scheduler.args.max_t, tune.searcher.kind) == (3, "random")


def test_override_returns_another_config() -> None:
    config = loads(FULL)
    before = dump(config)
    values = {"model.init_args.lr": 5, "trainer.callbacks.0.init_args.patience": 9, "data.init_args.sizes": [1]}
    changed = override(config, values)
    assert changed.lightning["model"]["init_args"]["lr"] == 5
    assert changed.trainer["callbacks"][0]["init_args"] == {"monitor": "val/acc", "patience": 9}
    assert dump(config) == before
    assert override(config, {}) == config
    with pytest.raises(ConfigError, match=r"^scaling\.num_workers: must be at least 1 \(found 0\)$"):
        override(config, {"scaling.num_workers": 0})
    with pytest.raises(ConfigError, match="is not an index"):
        override(config, {"trainer.callbacks.1.init_args.patience": 9})


def test_override_keeps_notes_once() -> None:
    config = loads(model("trainer: {accelerator: cpu, strategy: my.Strategy}\n"))
    assert override(override(config, {"trainer.max_epochs": 1}), {"trainer.max_epochs": 2}).notes == config.notes
