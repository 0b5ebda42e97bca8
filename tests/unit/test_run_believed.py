"""What a run that is resumed or tested takes from its storage, and what never."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer_app.checkpoint.loading import allow_globals
from trainer_app.config import dump, load, loads
from trainer_app.config.allowed_classes import why_never
from trainer_app.errors import ConfigError, InputError
from trainer_app.records import RunFolder, RunRecord
from trainer_app.run.believed import load_stored, stored_choices, trial_params
from trainer_app.run.request import RunRequest, prepare_run
from trainer_app.storage import open_store

pytestmark = pytest.mark.unit
HERE = "tests.unit.test_run_believed"
FILE = "model: {class_path: some.Model}\ndata: {class_path: some.Data}\n"
ALLOWS = f"{FILE}checkpoint: {{keep: 3, allow: [{HERE}.Mine]}}\n"


class Mine:
    """A class of the user's."""


def mine() -> None:
    """A function of the user's."""


system = __import__("os").system
popen = __import__("subprocess").Popen


def test_a_stored_run_file_decides_all_but_the_classes_of_checkpoints() -> None:
    with pytest.raises(InputError, match=rf"lets checkpoints hold {HERE}\.Mine, .*: --allow {HERE}\.Mine, or give"):
        load_stored(ALLOWS, run="demo")
    config = load_stored(ALLOWS, run="demo", overrides=["checkpoint.allow=[other.Thing]"])
    assert (config.checkpoint.allow, config.checkpoint.keep) == (["other.Thing"], 3)
    assert load_stored(FILE, run="demo") == loads(FILE)


def test_a_resume_without_files_imports_from_nowhere_that_the_storage_says(tmp_path: Path) -> None:
    record = RunRecord(name="demo", task="train", folders=["/evil"])
    RunFolder.create(open_store(str(tmp_path)), record, dump(loads(ALLOWS)))

    def prepared(**more: Any) -> Any:
        return prepare_run(RunRequest("train", resume="demo", storage=str(tmp_path), **more), env={})

    with pytest.raises(InputError, match="--allow"):
        prepared()
    one = prepared(allow=[f"{HERE}.Mine"], folders=[str(tmp_path)])
    assert one.folders == (str(tmp_path),) and one.config.checkpoint.allow == [f"{HERE}.Mine"]
    file = tmp_path / "run.yaml"
    file.write_text(ALLOWS)
    assert load([str(file)], []).checkpoint.allow == prepared(items=[str(file)]).config.checkpoint.allow
    assert prepared(items=[str(file)]).folders == (str(tmp_path),)


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "os.system", "subprocess.Popen", "posix.system", "importlib.import_module", "functools.partial",
     "pathlib.Path", "pickle.loads", "ray.cloudpickle.loads", "numpy.ndarray", "yaml.Loader",
     "jsonargparse.lazy_instance", "trainer_app.launch.kube.Kube", "sys:modules"],
)  # fmt: skip
def test_names_that_nobody_may_allow(name: str) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.allow.*is never allowed: .* is (part of Python|a package)"):
        loads(f"{FILE}checkpoint: {{allow: ['{name}']}}\n")
    with pytest.raises(InputError), allow_globals([name]):
        pass


@pytest.mark.parametrize("name", [f"{HERE}.system", f"{HERE}.popen", "torch.load", "torch.hub.load", f"{HERE}.HERE"])
def test_what_a_name_of_ones_own_may_not_lead_to(name: str) -> None:
    assert why_never(name) == ""
    with pytest.raises(ConfigError, match="is never allowed"), allow_globals([name]):
        pass


def test_ones_own_and_torchs_may_be_allowed() -> None:
    names = [f"{HERE}.Mine", f"{HERE}.mine", "torch.nn.Tanh", "torch.nn.functional.relu", "torchmetrics.MeanMetric"]
    assert loads(f"{FILE}checkpoint: {{allow: {names}}}\n").checkpoint.allow == names
    with allow_globals(names):
        pass


def test_choices_of_a_run_name_no_code() -> None:
    kept = {"seed_everything": 1, "data.init_args.source": "digits", "trainer.max_epochs": 3, "scaling.use_gpu": True}
    others = {"checkpoint.allow": ["os.system"], "cli": "evil:main", "trainer.logger": True, "storage.uri": "s3://b/p",
              "model.class_path": "evil.Model", "data.init_args.more": {"class_path": "evil"}, "model": {}}  # fmt: skip
    assert stored_choices({**kept, **others}) == kept


SPACE = "tune: {metric: m, mode: max, space: {model.init_args.act: {choice: [relu, tanh]}, model.init_args.lr: {loguniform: [0.1, 1.0]}, data.init_args.f: {sample_from: 'a:f'}}}\n"  # noqa: E501


def test_parameters_of_a_trial_are_values_of_its_space() -> None:
    good = {"model.init_args.act": "tanh", "model.init_args.lr": 0.5, "data.init_args.f": "any"}
    assert trial_params(loads(FILE + SPACE), good, trial="t00000") == good


@pytest.mark.parametrize(
    "params",
    [
        {"checkpoint.allow": ["builtins.eval"]},
        {"model.class_path": "evil.Model"},
        {"cli": "evil:main"},
        {"model.init_args.act": "os.system"},
        {"model.init_args.lr": "os.system"},
        {"model.init_args.lr": {"class_path": "evil"}},
    ],
)
def test_other_parameters_are_refused(params: dict[str, Any]) -> None:
    for text in (FILE, FILE + SPACE):
        with pytest.raises(InputError, match=r"trials/t00000/trial\.json: its parameter .* is not the run's"):
            trial_params(loads(text), params, trial="t00000")


def test_values_of_mutations_are_the_runs_too() -> None:
    pbt = SimpleNamespace(kind="pbt", args=SimpleNamespace(mutations={"model.init_args.act": ["gelu"]}))
    config: Any = SimpleNamespace(tune=SimpleNamespace(space={}, scheduler=pbt))
    assert trial_params(config, {"model.init_args.act": "gelu"}, trial="t00000")
    with pytest.raises(InputError):
        trial_params(config, {"model.init_args.act": "evil"}, trial="t00000")
