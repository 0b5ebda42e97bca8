"""FSDP2 and commits of many objects on several ranks without Ray: equal to DDP, resumed, killed, verified."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from tests.sharded_model import Measured, Tokens, Transformer
from tests.two_ranks import fit_rank, on_ranks
from tests.unit.test_fencing import replace_driver
from trainer_app import api
from trainer_app.callbacks import rank_watch
from trainer_app.checkpoint import Commit, list_commits, prune
from trainer_app.checkpoint.commit import describe_file
from trainer_app.checkpoint.loading import allow_globals
from trainer_app.checkpoint.shard_files import SafePlanner, load_metadata
from trainer_app.checkpoint.sharded import consolidate, download_whole
from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import CheckpointRejectedError, InputError, StorageError, TrainerError
from trainer_app.records import FitFolder, RunFolder, RunRecord
from trainer_app.rehearsal import rehearse
from trainer_app.run.orphans import find_orphans
from trainer_app.run.spec import RunSpec
from trainer_app.storage import Store, open_store
from trainer_app.training import evaluate, worker
from trainer_app.training.export import export
from trainer_app.training.start import find_start, load_weights

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore")]
MODULE = "tests.sharded_model"


def run_config(epochs: int, strategy: str = "fsdp2", name: str = "Transformer", **model: Any) -> RunConfig:
    return loads(
        f"""
seed_everything: 7
model: {{class_path: {MODULE}.{name}, init_args: {model}}}
data: {{class_path: {MODULE}.Tokens}}
trainer: {{max_epochs: {epochs}, strategy: {strategy}, logger: false, use_distributed_sampler: true}}
scaling: {{num_workers: 2}}
checkpoint: {{keep: null}}
"""
    )


def fit(uri: str, epochs: int, strategy: str = "fsdp2", **model: Any) -> list[tuple[float, str | None]]:
    """Do one rank's part of a fit, and return the loss and the commit of each epoch."""
    reports = fit_rank(run_config(epochs, strategy, **model), uri)
    return [(report["metrics"]["loss"], report["commit"]) for report in reports]


def fit_from(uri: str, key: str, path: str, strategy: str) -> list[tuple[float, str | None]]:
    config = loads(f"{dump(run_config(3, strategy))}\n{key}: {path}\n")
    return [(report["metrics"]["loss"], report["commit"]) for report in fit_rank(config, uri)]


def fit_noting_stderr(uri: str, epochs: int) -> str:
    """Do one rank's part of a fit, and return what it says on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        fit(uri, epochs)
    return said.getvalue()


DOCUMENTS = """
auto_wrap_policy: [torch.nn.TransformerEncoderLayer], sharding_strategy: FULL_SHARD, mixed_precision: null,
activation_checkpointing_policy: [torch.nn.TransformerEncoderLayer]"""


def fit_fsdp1(uri: str, epochs: int, state: str) -> list[tuple[float, str | None]]:
    """Fit with the deep dive's arguments of FSDP, which runs on CPUs once it is told that it may.

    With one state of a parameter only: torch gathers all of them into one buffer, and a copy to the CPU is none there.
    """
    from ray.train.lightning import RayFSDPStrategy
    from torch.distributed.fsdp import _common_utils, fully_sharded_data_parallel

    def init_device_handle(fsdp: Any, *_: Any) -> Any:
        fsdp._device_handle = _common_utils._FSDPDeviceHandle.from_device(torch.device("cpu"))
        return fsdp

    fully_sharded_data_parallel._init_device_handle = init_device_handle
    RayFSDPStrategy.root_device = torch.device("cpu")
    strategy = f"{{class_path: FSDPStrategy, init_args: {{{DOCUMENTS}, state_dict_type: {state}}}}}"
    return fit(uri, epochs, strategy, momentum=0.9)


@pytest.mark.full
@pytest.mark.parametrize("state", ["full", "sharded"])
def test_fsdp_with_the_documents_arguments_trains_and_resumes_as_undisturbed(tmp_path: Path, state: str) -> None:
    undisturbed, _ = on_ranks(2, fit_fsdp1, str(tmp_path / "calm"), 3, state)
    on_ranks(2, fit_fsdp1, str(tmp_path / "storage"), 1, state)
    resumed, _ = on_ranks(2, fit_fsdp1, str(tmp_path / "storage"), 3, state)
    assert undisturbed[0] == resumed[0] == "returned"
    assert [loss for loss, _ in resumed[1]] == pytest.approx([loss for loss, _ in undisturbed[1][1:]], abs=1e-6)
    assert [c.manifest.is_sharded for c in commits_of(tmp_path / "storage")] == [state == "sharded"] * 3


def run_fits(uri: str, epochs: int, *, workers: int = 2, strategy: str = "fsdp2") -> list[float]:
    """Fit on several ranks, and return the losses."""
    ends = on_ranks(workers, fit, uri, epochs, strategy)
    assert {end for end, _ in ends} == {"returned"}, ends
    losses = [[loss for loss, _ in epochs_of_rank] for _, epochs_of_rank in ends]
    assert losses == [losses[0]] * workers
    return losses[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a run of two epochs on two ranks."""
    storage = tmp_path_factory.mktemp("sharded")
    run_fits(str(storage), 2)
    return storage


@pytest.fixture
def storage(trained: Path, tmp_path: Path) -> Path:
    """A copy of `trained`, to be damaged."""
    shutil.copytree(trained, tmp_path / "storage")
    return tmp_path / "storage"


def commits_of(storage: Path) -> list[Commit]:
    return list_commits(open_store(str(storage)).child("r/checkpoints"))


def test_each_rank_has_an_object_and_the_manifest_lists_all(trained: Path) -> None:
    commits = commits_of(trained)
    assert [commit.manifest.epochs for commit in commits] == [1, 2]
    for commit in commits:
        folder = Path(commit.uri)
        there = {path.name for path in folder.iterdir()} - {"manifest.json"}
        assert there == {".metadata", "meta.pt", "__0_0.distcp", "__1_0.distcp"} == set(commit.manifest.objects)
        for name, described in commit.manifest.objects.items():
            data = (folder / name).read_bytes()
            assert (described.size, described.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        sizes = [commit.manifest.objects[f"__{rank}_0.distcp"].size for rank in (0, 1)]
        assert max(sizes) < 0.6 * sum(sizes)


def test_losses_are_those_of_ddp_and_a_resumed_fit_goes_on_as_an_undisturbed_one(storage: Path, tmp_path: Path) -> None:
    undisturbed = run_fits(str(tmp_path / "fsdp2"), 3)
    assert run_fits(str(tmp_path / "ddp"), 3, strategy="ddp") == pytest.approx(undisturbed, abs=1e-5)
    assert run_fits(str(storage), 3) == undisturbed[2:]  # the first two are in storage
    assert undisturbed[2] < undisturbed[0] - 0.1


def test_another_number_of_workers_resumes(storage: Path) -> None:
    last = run_fits(str(storage), 3, workers=3)
    assert run_fits(str(storage), 4, workers=1)[0] < last[0]
    assert [len(commit.manifest.objects) for commit in commits_of(storage)] == [4, 4, 5, 3]


def test_another_strategy_resumes_from_shards_and_back(storage: Path) -> None:
    assert len(run_fits(str(storage), 3, strategy="ddp")) == 1
    assert set(commits_of(storage)[-1].manifest.objects) == {"checkpoint.ckpt"}
    assert len(run_fits(str(storage), 4)) == 1
    assert [commit.manifest.is_sharded for commit in commits_of(storage)] == [True, True, False, True]


def fit_odd(folder: str) -> tuple[list[list[float]], str]:
    """Return the losses of Thawed, undisturbed, resumed and resumed from DDP, and what HalfSharded raises."""

    def losses(uri: str, epochs: int, strategy: str = "fsdp2") -> list[float]:
        return [loss for loss, _ in fit(f"{folder}/{uri}", epochs, strategy, name="Thawed")]

    ddp = "ddp_find_unused_parameters_true"
    seen = [losses("calm", 3), losses("cut", 2) + losses("cut", 3), losses("ddp", 1, ddp) + losses("ddp", 3)]
    with pytest.raises(InputError) as e:
        fit(f"{folder}/half", 1, name="HalfSharded")
    return seen, str(e.value)


def test_what_has_no_gradient_at_times_resumes_and_what_is_not_sharded_is_refused(tmp_path: Path) -> None:
    ends = on_ranks(2, fit_odd, str(tmp_path))
    assert [end for end, _ in ends] == ["returned"] * 2, ends
    (calm, resumed, from_ddp), refused = ends[0][1]
    assert len(calm) == 3 and resumed == calm and from_ddp == pytest.approx(calm, abs=1e-5)
    assert "parameters are not sharded, so that each worker would train its own: embedding.weight" in refused


@pytest.mark.parametrize("key", ["ckpt_path", "weights"])
@pytest.mark.parametrize("strategy", ["fsdp2", pytest.param("ddp", marks=pytest.mark.full)])
def test_a_new_run_starts_from_shards(trained: Path, tmp_path: Path, key: str, strategy: str) -> None:
    commit = commits_of(trained)[-1].uri
    ends = on_ranks(2, fit_from, str(tmp_path), key, commit if strategy == "ddp" else f"file://{commit}", strategy)
    assert {end for end, _ in ends} == {"returned"}, ends
    losses = [loss for loss, _ in ends[0][1]]
    assert len(losses) == {"ckpt_path": 1, "weights": 3}[key] and losses[0] < 3.4  # 3.69 from scratch


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:-1])
    else:
        path.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])


FULL = pytest.mark.full


@pytest.mark.parametrize(
    "name, how",
    [
        ("__1_0.distcp", "changed"),
        pytest.param("__0_0.distcp", "missing", marks=FULL),
        pytest.param(".metadata", "cut", marks=FULL),
    ],
)
def test_a_damaged_object_makes_all_ranks_take_an_older_commit(storage: Path, name: str, how: str) -> None:
    newest = commits_of(storage)[-1]
    damage(Path(newest.uri, name), how)
    (_, said), (_, of_other) = on_ranks(2, fit_noting_stderr, str(storage), 2)
    assert f"checkpoint {newest.name} is not used: {newest.uri}/{name} " in said and "not used" not in of_other
    assert [commit.manifest.attempt for commit in commits_of(storage)] == [1, 1, 2]


def fit_and_break(uri: str, epochs: int, rank: int, key: str, how: str) -> Any:
    """Fit; one rank dies at its first upload of an object of this name, or can't write it."""
    rank_watch._ANSWER_S = 0.5  # type: ignore[misc]
    kind: Any = type(open_store(uri))
    upload = kind.put_file

    def put_file(store: Store, name: str, path: Any) -> None:
        if torch.distributed.get_rank() == rank and name == key:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise StorageError(f"no space for {name}")
        upload(store, name, path)

    kind.put_file = put_file
    try:
        return fit(uri, epochs)
    finally:
        kind.put_file = upload


@pytest.mark.parametrize(
    "rank, key", [(1, "__1_0.distcp"), (0, ".metadata"), pytest.param(0, "__0_0.distcp", marks=FULL)]
)
def test_a_kill_between_two_uploads_makes_no_commit(storage: Path, rank: int, key: str) -> None:
    before = [commit.name for commit in commits_of(storage)]
    ends = on_ranks(2, fit_and_break, str(storage), 3, rank, key, "killed")
    assert ends[rank] == ("died", "") and ends[1 - rank][0] == "raised"
    assert [commit.name for commit in commits_of(storage)] == before
    started = {path.name for path in (storage / "r/checkpoints").iterdir()} - set(before)
    (storage / "r/run.json").write_text("{}")  # it is a run's
    orphans = [orphan.key for orphan in find_orphans(open_store(str(storage)), older_than_s=0)]
    assert [key for key in orphans if "/a0002" in key] == [f"r/checkpoints/{name}" for name in started]
    assert len(run_fits(str(storage), 3)) == 1
    assert not started & {path.name for path in (storage / "r/checkpoints").iterdir()}


def test_an_upload_that_fails_on_one_rank_ends_all_with_its_error(storage: Path) -> None:
    ends = on_ranks(2, fit_and_break, str(storage), 3, 1, "__1_0.distcp", "refused")
    assert ends == [("raised", "StorageError: no space for __1_0.distcp")] * 2
    assert len(commits_of(storage)) == 2


def fit_of_a_former_driver(uri: str, epochs: int) -> None:
    """Fit; rank 1 is a worker of a driver whose lease another one has taken."""
    driver = "0" if torch.distributed.get_rank() == 1 else ""
    spec = RunSpec(run="r", uri=uri, config="", use_gpu=False, driver=driver)
    worker.fit_with_ray(run_config(epochs), spec, trial=None, report=lambda _: None)


def test_no_rank_of_a_former_driver_uploads_and_nothing_is_committed(storage: Path) -> None:
    replace_driver(open_store(str(storage)).child("r"))
    ends = on_ranks(2, fit_of_a_former_driver, str(storage), 3)
    assert all(end == "raised" and text.startswith("LeaseLostError") for end, text in ends), ends
    (started,) = {path.name for path in (storage / "r/checkpoints").iterdir()} - {c.name for c in commits_of(storage)}
    assert "__1_0.distcp" not in {path.name for path in (storage / "r/checkpoints" / started).iterdir()}


def test_all_objects_of_a_surplus_commit_are_deleted(storage: Path) -> None:
    newest = commits_of(storage)[-1]
    assert prune(commits_of(storage), keep=1, monitor=None, mode=None) == [newest]
    assert [path.name for path in (storage / "r/checkpoints").iterdir()] == [newest.name]


def test_one_plain_checkpoint_is_made_of_a_sharded_commit(trained: Path, tmp_path: Path) -> None:
    commit = commits_of(trained)[-1]
    path = consolidate(commit, tmp_path)
    model = Transformer()
    model.configure_model()
    loaded = torch.load(path, weights_only=True)
    model.load_state_dict(loaded["state_dict"])
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, Tokens(), ckpt_path=str(path))
    assert trainer.current_epoch == 3 and trainer.global_step == 6 + 6
    assert loaded["hyper_parameters"]["width"] == 16


class Odd:
    """A class of the user's, as a hyperparameter."""


def add_odd(storage: Path) -> Commit:
    """Put an object of the class `Odd` into the newest commit."""
    old = commits_of(storage)[-1]
    folder = storage / "r/checkpoints" / old.name
    torch.save({**torch.load(folder / "meta.pt", weights_only=True), "odd": Odd()}, folder / "meta.pt")
    objects = {**old.manifest.objects, "meta.pt": describe_file(folder / "meta.pt")}
    (folder / "manifest.json").write_bytes(old.manifest.model_copy(update={"objects": objects}).to_json())
    commit = commits_of(storage)[-1]
    assert commit.name == old.name
    return commit


ODD = f"{__name__}.Odd"


def test_a_sharded_commit_with_a_class_that_is_allowed_is_made_one(storage: Path, tmp_path: Path) -> None:
    commit = add_odd(storage)
    with pytest.raises(TrainerError, match=r"checkpoint\.allow: \[.*Odd\]"):
        download_whole(commit, tmp_path / "refused")
    path = download_whole(commit, tmp_path / "whole", [ODD])
    with allow_globals([ODD]):
        assert isinstance(torch.load(path, weights_only=True)["odd"], Odd)


def test_a_new_run_takes_weights_of_shards_with_a_class_that_it_allows(storage: Path, tmp_path: Path) -> None:
    commit, model = add_odd(storage), Transformer()
    model.configure_model()
    fit_folder = FitFolder(open_store(str(tmp_path / "new")))
    config = loads(f"{dump(run_config(3))}\nweights: {commit.uri}\n")
    with pytest.raises(TrainerError, match=r"checkpoint\.allow: \[.*Odd\]"):
        find_start(config, fit_folder, tmp_path / "refused")
    config = override(config, {"checkpoint.allow": [ODD]})
    start = find_start(config, fit_folder, tmp_path / "allowed")
    before = model.head.weight.clone()
    load_weights(model, config, str(start.weights))
    assert start.commit is None and not torch.equal(model.head.weight, before)


def test_a_sharded_commit_is_exported_as_a_program(storage: Path) -> None:
    """Of two ranks' shards, in one process without a mesh; any number of texts of this length."""
    text = f"model: {{class_path: {MODULE}.Transformer}}\ndata: {{class_path: {MODULE}.Tokens}}\n"
    store = open_store(str(storage))
    RunFolder.create(
        store, RunRecord(name="r", task="train", state="succeeded"), f"{text}trainer: {{strategy: fsdp2}}\n"
    )
    target = storage / "net.pt2"
    event = export(store, "r", str(target), kind="pt2")
    assert event["checkpoint"].endswith(commits_of(storage)[-1].name) and event["inputs"].startswith("int64[any, ")
    best = api.Run(str(storage), "r").checkpoints()[-1]
    assert best.load(Transformer).hparams["width"] == 16 and best.download(storage / "here") == storage / "here"
    tokens = next(iter(Tokens().train_dataloader()))[0]
    assert torch.export.load(target).module()(tokens[:3]).shape[0] == 3


def test_plain_lightning_resumes_from_the_folder(trained: Path) -> None:
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", devices=1, strategy=strategy, logger=False, enable_checkpointing=False
    )
    with evaluate.group_of_one():
        trainer.fit(Transformer(), Tokens(), ckpt_path=commits_of(trained)[-1].uri, weights_only=True)
    assert trainer.current_epoch == 3 and trainer.callback_metrics["loss"] < 3.3


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EVIL"],)


def test_pickles_in_a_commit_run_nothing(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "evil"))
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointRejectedError, match=r"damaged: posix\.mkdir is not allowed"):
        load_metadata(tmp_path / ".metadata")
    value = io.BytesIO()
    torch.save(Evil(), value)
    value.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.mkdir"):
        SafePlanner().load_bytes(None, value)
    assert not (tmp_path / "evil").exists()


def test_the_test_split_is_scored_from_shards(storage: Path) -> None:
    store, config = open_store(str(storage)), run_config(2, name="NeedsMesh")
    folder = RunFolder.create(store, RunRecord(name="r", task="train", use_gpu=False), dump(config))
    folder.update(state="succeeded")
    event = evaluate.test_here(store, "r", accelerator="cpu")
    assert event["metrics"]["test_loss"] > 0 and event["checkpoint"].endswith(commits_of(storage)[-1].name)


def measure(uri: str, strategy: str, width: int, layers: int) -> tuple[list[float], int, int]:
    """Train one rank's part; return the losses, the number of parameters, and the peak of bytes on this rank."""
    reports = fit_rank(run_config(2, strategy, name="Measured", width=width, layers=layers), uri)
    return [report["metrics"]["loss"] for report in reports], Measured.count, Measured.peak


@pytest.mark.parametrize(
    "width, layers, least", [(32, 8, 100_000), pytest.param(256, 13, 10_000_000, marks=pytest.mark.full)]
)
def test_parameters_and_optimizer_take_little_more_than_half_of_ddps_memory_and_lose_as_there(
    tmp_path: Path, width: int, layers: int, least: int
) -> None:
    sharded, plain = (
        [result for _, result in on_ranks(2, measure, str(tmp_path / strategy), strategy, width, layers)]
        for strategy in ("fsdp2", "ddp")
    )
    for (losses, count, peak), (of_ddp, _, peak_of_ddp) in zip(sharded, plain, strict=True):
        assert count >= least and losses == pytest.approx(of_ddp, abs=1e-5)
        assert peak_of_ddp >= 3 * 4 * count and peak <= 0.6 * peak_of_ddp


def test_a_rehearsal_gives_the_module_a_mesh_of_one_and_saves_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(dump(run_config(2, name="NeedsMesh")))
    done = rehearse(["run.yaml"]).done
    assert "a checkpoint saved, loaded and restored" in done and "tested" in done
