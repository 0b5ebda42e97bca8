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
        load_stored(ALLOWS, uri="/runs/demo")
    config = load_stored(ALLOWS, uri="/runs/demo", overrides=["checkpoint.allow=[other.Thing]"])
    assert (config.checkpoint.allow, config.checkpoint.keep) == (["other.Thing"], 3)
    assert load_stored(FILE, uri="/runs/demo") == loads(FILE)


@pytest.mark.parametrize("start", ["ckpt_path: evil.ckpt", "ckpt_path: last", "weights: evil.pt"])
@pytest.mark.parametrize("said", ["", "weights_only: false\n", "weights_only: null\n"])
def test_a_stored_run_file_starts_from_no_file_that_runs_code(start: str, said: str) -> None:
    """A pickle of anybody's was loaded by `--resume` of a prepared run without a checkpoint."""
    text = f"{FILE}{start}\n{said}"
    assert load_stored(text, uri="/runs/demo").weights_only is True
    assert load_stored(text, uri="/runs/demo", overrides=["weights_only=false"]).weights_only is False


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


@pytest.mark.parametrize(
    "more",
    ["cli: 'subprocess:Popen'", "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: {args: x}}]}",
     "trainer: {strategy: {class_path: os.system}}", "optimizer: {class_path: builtins.eval}",
     "trainer: {callbacks: [{class_path: some.Own, init_args: {function: os.system}}]}",
     "trainer: {callbacks: [{class_path: some.Own, init_args: {function: {class_path: torch.hub.load}}}]}",
     "trainer: {logger: {class_path: ray.cloudpickle.loads}}", "trainer: {profiler: 'pickle:loads'}",
     "tune: {metric: m, mode: max, space: {model.init_args.lr: {sample_from: 'os:getenv'}}}",
     "tune: {metric: m, mode: max, space: {model.init_args.act: {choice: [numpy.load]}}}"],
)  # fmt: skip
def test_a_stored_run_file_names_no_code_of_pythons_or_of_this_program(more: str) -> None:
    text = (FILE if not more.startswith("cli") else "") + more
    loads(text)
    with pytest.raises(InputError, match="run demo: its stored run file names code that its storage can't decide: "):
        load_stored(text, uri="/runs/demo")


@pytest.mark.parametrize("name", ["some.Own", "torch.nn.Tanh", "torchvision.models.resnet18", "datetime.timedelta",
                                  "ray.train.lightning.RayDDPStrategy", "code.txt", "CSVLogger"])  # fmt: skip
def test_a_stored_run_file_names_ones_own_and_torchs_code(name: str) -> None:
    text = f"{FILE}trainer: {{callbacks: [{{class_path: some.Own, init_args: {{a: {name}}}}}]}}\n"
    assert load_stored(text, uri="s3://b/runs/demo") == loads(text)


@pytest.mark.parametrize("storage", ["runs", "out/runs", ".", "link"])
@pytest.mark.parametrize("code", ["cli: {}/evil.py", "model: {{class_path: {}.evil.Model}}"])
def test_code_is_never_imported_from_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / storage / "demo" / "artifacts"
    if storage == "link":
        (tmp_path / "target").mkdir()
        (tmp_path / "link").symlink_to("target")
    folder.mkdir(parents=True)
    (folder / "evil.py").touch()
    (tmp_path / storage / "demo" / "run.json").touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "evil.py").touch()
    place = folder.relative_to(tmp_path).as_posix()
    uri = str(tmp_path / storage / "demo")
    for root in (place, place.replace("link", "target")):
        with pytest.raises(InputError, match=r"evil.*: it is in the storage"):
            load_stored(code.format(root if code.startswith("cli") else root.replace("/", ".")), uri=uri)
    load_stored(code.format("own"), uri=uri)


def test_choices_of_a_run_name_no_code() -> None:
    kept = {"seed_everything": 1, "data.init_args.source": "digits", "trainer.max_epochs": 3, "scaling.use_gpu": True}
    others = {"checkpoint.allow": ["os.system"], "cli": "evil:main", "trainer.logger": True, "storage.uri": "s3://b/p",
              "model.class_path": "evil.Model", "data.init_args.more": {"class_path": "evil"}, "model": {},
              "scaling.num_workers": 9, "data": "os.system", "model.init_args.act": "torch.hub.load"}  # fmt: skip
    assert stored_choices({**kept, **others}) == kept


SPACE = "tune: {metric: m, mode: max, space: {model.init_args.act: {choice: [relu, tanh]}, model.init_args.lr: {loguniform: [0.1, 1.0]}, data.init_args.f: {sample_from: 'a:f'}}}\n"  # noqa: E501


def test_parameters_of_a_trial_are_values_of_its_space() -> None:
    good = {"model.init_args.act": "tanh", "model.init_args.lr": 0.5, "data.init_args.f": "any"}
    assert trial_params(loads(FILE + SPACE), good, trial="t00000") == good


@pytest.mark.parametrize(
    "params",
    [
        {"model.init_args.lr": 2.0},
        {"model.init_args.lr": float("inf")},
        {"model.init_args.lr": True},
        {"model.init_args.lr": None},
        {"model.init_args.act": 3},
        {"model.init_args.act": {"class_path": "evil"}},
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
    for value in ("gelu", 7):  # a number is multiplied
        assert trial_params(config, {"model.init_args.act": value}, trial="t00000")
    with pytest.raises(InputError):
        trial_params(config, {"model.init_args.act": "evil"}, trial="t00000")
