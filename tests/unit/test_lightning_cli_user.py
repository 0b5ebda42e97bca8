"""Form 2: five LightningCLI projects run unchanged, each against what the project does by itself."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback

from tests.unit.cli_projects import linked, pieces
from tests.unit.lightning_cli_config import FOLDER, PROJECTS, QUIET, read, run_config
from trainer_app.config import dump, loads
from trainer_app.errors import ConfigError
from trainer_app.lightning_cli import build_parts, check_code, default_limits, default_seed, resolve_init_args
from trainer_app.run import prepare

pytestmark = pytest.mark.unit

TARGETS = [
    ("linked", "LinkedCLI", "fit"),
    ("factory", "make_cli", ""),
    ("main_run", "cli_main", "fit"),
    ("partly", "cli", "fit"),
    ("subclasses", "build_cli", "fit"),
]


def by_itself(monkeypatch: pytest.MonkeyPatch, name: str, verb: str) -> pieces.Net:
    """The model with which the project's own command line fits."""
    argv = ["main.py", *([verb] if verb else []), "--config", str(FOLDER / f"{name}.yaml")]
    monkeypatch.setattr(sys, "argv", argv)
    defaults = LightningCLI.__init__.__defaults__
    without_saving = tuple(None if default is SaveConfigCallback else default for default in defaults)
    monkeypatch.setattr(LightningCLI.__init__, "__defaults__", without_saving)
    pieces.FITTED.clear()
    importlib.import_module(f"{PROJECTS}.{name}").own()
    (model,) = pieces.FITTED
    return model


@pytest.mark.parametrize(("name", "target", "verb"), TARGETS)
def test_a_project_is_built_as_by_its_own_command_line(
    monkeypatch: pytest.MonkeyPatch, name: str, target: str, verb: str
) -> None:
    own = by_itself(monkeypatch, name, verb)
    argv = ["trainer", "train", "x.yaml"]
    monkeypatch.setattr(sys, "argv", argv)
    config = run_config(read(f"{name}.yaml"), cli=f"{PROJECTS}.{name}:{target}")
    check_code(config)
    parts = build_parts(config, trainer_kwargs={"accelerator": "cpu", "logger": False})
    assert dict(parts.model.hparams) == dict(own.hparams)
    assert type(parts.model) is type(own)
    assert type(parts.trainer) is type(own.trainer)
    assert [type(c) for c in parts.trainer.callbacks] == [type(c) for c in own.trainer.callbacks]
    assert parts.trainer.max_epochs == own.trainer.max_epochs
    assert sys.argv is argv
    pieces.FITTED.clear()
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert [parts.model] == pieces.FITTED
    if name != "partly":  # its seed is drawn anew
        pairs = zip(parts.model.state_dict().values(), own.state_dict().values(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs), "another seed, optimizer or order of data"


def linked_config(**changes: Any) -> Any:
    return run_config({**read("linked.yaml"), **changes}, cli=f"{PROJECTS}.linked:LinkedCLI")


def test_links_defaults_hooks_and_added_arguments() -> None:
    parts = build_parts(linked_config())
    hparams = dict(parts.model.hparams)
    assert (hparams["batch_size"], hparams["width"], hparams["num_classes"], hparams["lr"]) == (8, 24, 2, 0.5)
    assert parts.cli.task_name == "digits"
    assert not hasattr(parts.cli, "after"), "what follows the fit"
    assert parts.cli.config.fit.seed_everything == 7
    (early,) = [c for c in parts.trainer.callbacks if isinstance(c, EarlyStopping)]
    assert (early.monitor, early.patience) == ("loss", 5)
    assert type(parts.trainer) is pieces.OwnTrainer


def test_callbacks_of_the_clis_defaults_carry_no_state_to_the_next_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(linked.DEFAULTS, "callbacks", [pieces.Probe()])
    first = build_parts(linked_config())
    first.trainer.fit(first.model, datamodule=first.datamodule)
    second = build_parts(linked_config())
    (used,) = [c for c in first.trainer.callbacks if isinstance(c, pieces.Probe)]
    (fresh,) = [c for c in second.trainer.callbacks if isinstance(c, pieces.Probe)]
    assert (used.epochs, fresh.epochs) == (2, 0)
    assert linked.DEFAULTS["callbacks"][0].epochs == 0


def test_a_link_sees_what_overrides_the_trainer_block() -> None:
    seen = build_parts(linked_config(trainer={**QUIET, "max_epochs": 5}), trainer_kwargs={"max_epochs": 3})
    assert seen.cli.config.fit.trainer.max_epochs == 3


def test_a_script_that_fits_by_itself_is_stopped_at_fit() -> None:
    config = run_config(read("main_run.yaml"), cli=f"{PROJECTS}.main_run:fits_itself")
    pieces.FITTED.clear()
    parts = build_parts(config)
    assert pieces.FITTED == []
    assert parts.trainer.global_step == 0
    assert parts.cli.config.optimizer.lr == 0.25
    parts.trainer.fit(parts.model, datamodule=parts.datamodule)
    assert [parts.model] == pieces.FITTED


def test_a_factory_that_needs_args_gets_them_and_may_change_what_it_returns() -> None:
    parts = build_parts(run_config(read("factory.yaml"), cli=f"{PROJECTS}.factory:needs_args"))
    assert parts.model.extra == 1


def test_lightning_cli_itself_is_a_target() -> None:
    parts = build_parts(
        run_config(read("subclasses.yaml") | {"model": MODEL}, cli="lightning.pytorch.cli:LightningCLI")
    )
    assert parts.model.hparams["width"] == 7


MODEL = {"class_path": f"{PROJECTS}.pieces.Net", "init_args": {"width": 7, "batch_size": 8}}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("factory:exits", "the user's code called sys.exit(2)"),
        ("factory:none", "constructed no lightning.pytorch.cli.LightningCLI"),
        ("factory:fits_by_itself", "it fits with a Trainer of its own, and has made no LightningCLI; leave cli out"),
        ("factory:asks", "required arguments: folder"),
        ("factory:made", "a object can't be called"),
        ("factory:nope", "has no 'nope'"),
        ("nowhere:cli", f"no module named '{PROJECTS}.nowhere'"),
    ],
)
@pytest.mark.parametrize("verb", [check_code, build_parts])
def test_targets_that_are_none(target: str, says: str, verb: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        verb(run_config(read("factory.yaml"), cli=f"{PROJECTS}.{target}"))
    (problem,) = raised.value.problems
    assert problem.key == "cli"
    assert says in str(problem)


def test_a_target_that_makes_two() -> None:
    with pytest.raises(ConfigError, match="more than one LightningCLI"):
        build_parts(run_config(read("factory.yaml"), cli=f"{PROJECTS}.factory:two"))


BROKEN: list[tuple[str, dict[str, Any], set[str]]] = [
    ("model argument", {"model": {"widht": 3}}, {"model.widht"}),
    ("data type", {"data": {"batch_size": "many"}}, {"data.batch_size"}),
    ("added argument", {"task": {"nam": "x"}}, {"task.nam"}),
    ("added block", {"taks": {"name": "x"}}, {"taks"}),
    ("required", {"factor": None}, {"factor"}),
    ("added callback", {"early_stopping": {"patience": "p"}}, {"early_stopping.patience"}),
    ("three at once", {"factor": "f", "trainer": {"max_epoch": 1}, "data": {"siz": 1}},
     {"factor", "trainer.max_epoch", "data.siz"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "keys"), BROKEN, ids=[b[0] for b in BROKEN])
def test_broken_blocks_of_a_project_name_their_keys(name: str, changes: dict[str, Any], keys: set[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        check_code(linked_config(**changes))
    assert {p.key for p in raised.value.problems} == keys


def test_another_thread_constructs_its_own() -> None:
    """While one thread builds, another's LightningCLI is its own."""
    errors: list[BaseException] = []
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(30)
        try:
            parsed = LightningCLI(pieces.SelfFed, run=False, args={"trainer": QUIET, "model": {"width": 9}})
            assert parsed.model.hparams["width"] == 9
        except BaseException as error:  # noqa: BLE001  reported by the test
            errors.append(error)
        go_on.set()

    thread = threading.Thread(target=other)
    thread.start()
    linked.DEFAULTS["callbacks"].append(_Waits(inside, go_on))
    try:
        build_parts(linked_config())
    finally:
        linked.DEFAULTS["callbacks"].pop()
        inside.set()
        thread.join(30)
    assert errors == []
    assert go_on.is_set()


class _Waits(pieces.Probe):
    """Holds a build at the moment its callbacks are copied, inside the patched constructor."""

    def __init__(self, inside: threading.Event, go_on: threading.Event) -> None:
        super().__init__()
        self.inside, self.go_on = inside, go_on

    def __deepcopy__(self, memo: dict[int, Any]) -> pieces.Probe:
        self.inside.set()
        assert self.go_on.wait(30)
        return pieces.Probe()


def test_resolve_uses_the_clis_classes() -> None:
    config = run_config({**read("partly.yaml"), "model": {"batch_size": 2}}, cli=f"{PROJECTS}.partly:cli")
    assert resolve_init_args(config) == config
    settled = resolve_init_args(run_config({"model": {"batch_size": 2, "width": 0}}, cli=f"{__name__}:choosy"))
    assert settled.model == {"batch_size": 2, "width": 3}


def choosy() -> LightningCLI:
    return LightningCLI(pieces.Choosy, pieces.Data)


@pytest.mark.parametrize(
    ("name", "target", "seed"), [("linked", "LinkedCLI", 7), ("factory", "make_cli", True), ("partly", "cli", True)]
)
def test_the_seed_that_a_cli_has_by_default(name: str, target: str, seed: Any) -> None:
    blocks = {key: value for key, value in read(f"{name}.yaml").items() if key != "seed_everything"}
    found = default_seed(run_config(blocks, cli=f"{PROJECTS}.{name}:{target}"))
    assert found == seed and isinstance(found, bool) == isinstance(seed, bool)


def test_a_runs_seed_is_the_clis_own_unless_the_run_file_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", '{"CPU": 1}')
    silent, chosen = prepare.resolve_choices(linked_config(seed_everything=None))
    assert silent.seed_everything == chosen["seed_everything"] == 7
    given, chosen = prepare.resolve_choices(linked_config(seed_everything=5))
    assert given.seed_everything == 5 and "seed_everything" not in chosen
    monkeypatch.setattr(LightningCLI.__init__, "__defaults__", _with_seed(LightningCLI, default=False))
    unseeded, chosen = prepare.resolve_choices(
        run_config(read("factory.yaml") | {"seed_everything": None}, cli=FACTORY)
    )
    assert unseeded.seed_everything is False and chosen["seed_everything"] is False


FACTORY = f"{PROJECTS}.factory:make_cli"


def _with_seed(cli: type[LightningCLI], *, default: bool) -> tuple[Any, ...]:
    """The defaults of its constructor, with another one for seed_everything_default."""
    names = [p.name for p in inspect.signature(cli.__init__).parameters.values() if p.default is not p.empty]
    values = cli.__init__.__defaults__ or ()
    return tuple(default if n == "seed_everything_default" else v for n, v in zip(names, values, strict=True))


class LengthCLI(LightningCLI):
    """Its length comes from a link, which goes over what a file says."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.link_arguments("data.batch_size", "trainer.max_epochs")


def links() -> LightningCLI:
    return LengthCLI(pieces.SelfFed, pieces.Data, run=False)


class DefaultsCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: Any) -> None:
        parser.set_defaults({"trainer.max_epochs": 4})


def sets() -> LightningCLI:
    return DefaultsCLI(pieces.SelfFed, pieces.Data, run=False)


def steps() -> LightningCLI:
    defaults = {"max_steps": 7, "max_time": {"hours": 1}, "fast_dev_run": False}
    return LightningCLI(pieces.SelfFed, pieces.Data, trainer_defaults=defaults, run=False)


@pytest.mark.parametrize(
    ("cli", "blocks", "limits", "epochs"),
    [
        (f"{PROJECTS}.linked:LinkedCLI", read("linked.yaml"), {"trainer.max_epochs": 2}, 2),  # trainer_defaults
        (f"{PROJECTS}.linked:LinkedCLI", {**read("linked.yaml"), "trainer": {"max_epochs": 5}}, {}, 5),
        (f"{__name__}:sets", {}, {"trainer.max_epochs": 4}, 4),
        (f"{__name__}:steps", {}, {"trainer.max_steps": 7, "trainer.max_time": {"hours": 1}}, None),
        (f"{__name__}:links", {"data": {"batch_size": 8}}, {"trainer.max_epochs": 8}, 8),
    ],
)
def test_a_run_knows_the_length_that_its_cli_sets(
    cli: str, blocks: dict[str, Any], limits: dict[str, Any], epochs: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress said 1000 epochs, and ASHA's max_t was that."""
    monkeypatch.setenv("TRAINER_CLUSTER_RESOURCES", '{"CPU": 1}')
    config = run_config(blocks, cli=cli)
    assert default_limits(config) == limits
    resolved, chosen = prepare.resolve_choices(config)
    assert prepare.target_epochs(resolved) == epochs
    assert limits.items() <= chosen.items()
    assert default_limits(loads(dump(resolved))) == {}
