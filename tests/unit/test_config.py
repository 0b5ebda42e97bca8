"""Loading, merging, overriding and dumping run files that are right."""

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tree import ROOT
from trainer_app.config import RunConfig, dump, load, loads, override, require_tune
from trainer_app.errors import ConfigError

pytestmark = pytest.mark.unit

FULL = """\
name: mnist
seed_everything: 7
model: {class_path: a.Net, init_args: {layer_1: 128, lr: 1e-3, sizes: [1, 2]}}
data: {class_path: a.Data, init_args: {batch_size: 64, root: 2024-01-01}}
trainer:
  max_epochs: 5
  callbacks:
    - {class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val/acc, patience: 3}}
optimizer: {class_path: Adam, init_args: {lr: 0.1}}
lr_scheduler: {class_path: StepLR, init_args: {step_size: 1}}
ckpt_path: x.ckpt
scaling: {num_workers: 2, use_gpu: false, resources_per_worker: {CPU: 1}, timeout_s: 60, process_group_backend: gloo}
checkpoint: {keep: null, monitor: val/acc, mode: max, every_n_epochs: 2}
failure: {max_failures: -1}
storage: {uri: "s3://bucket/runs?endpoint_override=http://127.0.0.1:9000&region=x"}
tune:
  metric: val/acc
  mode: max
  num_samples: -1
  time_budget_s: 60
  max_concurrent_trials: 2
  scheduler: asha
  searcher: {optuna: {seed: 3}}
  space:
    model.init_args.lr: {loguniform: [1e-4, 1e-1]}
    model.init_args.layer_1: {choice: [32, [1, 2], null, yes]}
    data.init_args.batch_size: {quniform: {lower: 1, upper: 2, q: 0.5}}
    trainer.callbacks.0.init_args.patience: {randint: [1, 5]}
"""
PRIMITIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "choice": ("[1, a]", {"categories": [1, "a"]}),
    "uniform": ("[0, 1]", {"lower": 0, "upper": 1}),
    "quniform": ("[0, 1, 0.1]", {"lower": 0, "upper": 1, "q": 0.1}),
    "loguniform": ("{lower: 1e-4, upper: 1}", {"lower": 1e-4, "upper": 1}),
    "qloguniform": ("[0.1, 1, 0.1]", {"lower": 0.1, "upper": 1, "q": 0.1}),
    "randint": ("[0, 9]", {"lower": 0, "upper": 9}),
    "qrandint": ("[0, 8]", {"lower": 0, "upper": 8, "q": 1}),
    "lograndint": ("[1, 9]", {"lower": 1, "upper": 9}),
    "qlograndint": ("[2, 8, 2]", {"lower": 2, "upper": 8, "q": 2}),
    "randn": ("[]", {"mean": 0, "sd": 1}),
    "qrandn": ("[0, 1, 0.5]", {"mean": 0, "sd": 1, "q": 0.5}),
    "grid_search": ("[1, 2]", {"values": [1, 2]}),
    "sample_from": ("a.b:draw", {"func": "a.b:draw"}),
}


def model(more: str = "") -> str:
    return "model: {class_path: a.Net, init_args: {lr: 0.1, w: [1, 2]}}\n" + more


def test_values_are_yaml_1_2() -> None:
    init = "{a: 1e-3, b: yes, c: on, d: 010, e: 2024-01-01, f: null, g: ~, h: 0o17, i: .5, j: '1e-3', k: off, 1: x}"
    config = loads(f"model: {{class_path: a.Net, init_args: {init}}}")
    assert config.model is not None
    expected: dict[Any, Any] = {
        "a": 1e-3,
        "b": "yes",
        "c": "on",
        "d": 10,
        "e": "2024-01-01",
        "f": None,
        "g": None,
        "h": 15,
        "i": 0.5,
    }
    assert config.model["init_args"] == {**expected, "j": "1e-3", "k": "off", 1: "x"}


def test_defaults() -> None:
    config = loads(model())
    assert (config.scaling.num_workers, config.scaling.use_gpu, config.scaling.placement_strategy) == (
        1,
        "auto",
        "PACK",
    )
    assert (config.checkpoint.keep, config.checkpoint.every_n_epochs, config.failure.max_failures) == (2, 1, 3)
    assert (config.storage.uri, config.tune, config.notes, config.max_epochs) == ("runs", None, (), 1000)


@pytest.mark.parametrize(
    "trainer, epochs",
    [
        ("{max_epochs: 5}", 5),
        ("{max_epochs: -1}", -1),
        ("{max_steps: 10}", -1),
        ("{max_steps: -1}", 1000),
        ("{max_time: 00:01:00:00}", -1),
        ("{max_epochs: 5, fast_dev_run: true}", 1),
    ],
)
def test_max_epochs_by_lightnings_rules(trainer: str, epochs: int) -> None:
    assert loads(model(f"trainer: {trainer}\n")).max_epochs == epochs


@pytest.mark.parametrize(
    "text", [FULL, model(), model("trainer: {max_epochs: 1}\n"), "cli: a:B\ndata: {}\nx: {y: 1}\n"]
)
def test_dump_reads_back(text: str) -> None:
    config = loads(text)
    assert loads(dump(config)) == config
    assert dump(loads(dump(config))) == dump(config)
    assert loads(dump(config)).notes == () or config.notes


def test_dump_keeps_awkward_values() -> None:
    values: dict[str, list[Any]] = {
        "texts": ["1e-3", "yes", "null", "", "~", "0x1", "2024-01-01", "a: b", "#", " x ", "ü\n\tz", "=", "<<", "1_0"],
        "numbers": [1e-05, 1e300, -0.1, 0, 12345678901234567890, True, None, float("inf")],
        "empty": [[], {}],
    }
    config = RunConfig(model={"class_path": "a.B", "init_args": values})
    read = loads(dump(config))
    assert read == config
    assert read.model is not None
    assert [type(v) for v in read.model["init_args"]["numbers"]] == [type(v) for v in values["numbers"]]
    assert "1.0e-05" in dump(config)  # YAML 1.1 takes 1e-05 for a text


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_primitives(kind: str) -> None:
    text, args = PRIMITIVES[kind]
    config = loads(model(f"tune: {{metric: m, mode: min, space: {{model.init_args.lr: {{{kind}: {text}}}}}}}\n"))
    primitive = require_tune(config).space["model.init_args.lr"]
    assert (primitive.kind, primitive.args) == (kind, args)
    assert loads(dump(config)) == config


@pytest.mark.parametrize("kind", ["fifo", "asha", "hyperband", "median", "pbt"])
def test_schedulers_by_name_and_by_mapping(kind: str) -> None:
    args = {"pbt": "{mutations: {model.init_args.lr: [1, 2]}}"}.get(kind, "{}")
    forms = [f"{{{kind}: {args}}}"] + ([kind, f"{{{kind}: }}"] if kind != "pbt" else [])
    found = [
        loads(
            model(
                f"tune: {{metric: m, mode: min, scheduler: {form}, space: {{model.init_args.lr: {{choice: [1]}}}}}}\n"
            )
        )
        for form in forms
    ]
    assert {require_tune(config).scheduler.kind for config in found} == {kind}
    assert all(config == found[0] for config in found)
    assert type(require_tune(found[0]).scheduler.args).__name__.lower() == kind


def test_mutations_are_primitives_or_lists() -> None:
    mutations = "{model.init_args.lr: {loguniform: [0.1, 1]}, model.init_args.w: [3, 4]}"
    body = f"scheduler: {{pbt: {{mutations: {mutations}}}}}"
    config = loads(model(f"tune: {{metric: m, mode: min, {body}}}\n"))
    found = require_tune(config).scheduler.args.mutations
    assert found["model.init_args.w"] == [3, 4]
    assert found["model.init_args.lr"].args == {"lower": 0.1, "upper": 1}
    assert loads(dump(config)) == config


def test_lightning_holds_its_blocks_only() -> None:
    config = loads(FULL)
    assert list(config.lightning) == ["seed_everything", "model", "data", "trainer", "optimizer", "lr_scheduler"]
    config.lightning["model"]["init_args"]["lr"] = 9  # a copy
    assert config.lightning["model"]["init_args"]["lr"] == 1e-3


def test_arguments_of_a_cli() -> None:
    config = loads("cli: a.b:CLI\nmodel: {width: 3}\nextra: {width: 2}\nnote: hi\nseed_everything: true\n")
    assert config.arguments == {"extra": {"width": 2}, "note": "hi"}
    assert config.lightning == {"seed_everything": True, "model": {"width": 3}, "trainer": {}, **config.arguments}
    assert override(config, {"extra.width": 5}).arguments["extra"] == {"width": 5}
    assert loads(dump(config), overrides=["extra.width=5"]).arguments["extra"] == {"width": 5}
    assert loads("cli: a.b:CLI\narguments: {name: x}\n").lightning["name"] == "x"


def test_arguments_that_look_like_a_block_are_remarked() -> None:
    (note,) = loads("cli: a.b:CLI\nscalling: {num_workers: 2}\n").notes
    assert note.startswith("run.yaml:2: scalling: ") and "did you mean scaling?" in note


def test_a_block_of_the_clis_own_may_have_the_name_of_one_of_the_runs() -> None:
    """`parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")`; a key that is nearly ours is a mistake."""
    text = "cli: a.b:CLI\ncheckpoint: {save_top_k: 2, monitor: loss}\nstorage: {bucket: x}\n"
    config = loads(text)
    own = {"checkpoint": {"save_top_k": 2, "monitor": "loss"}, "storage": {"bucket": "x"}}
    assert config.arguments == own and config.checkpoint == RunConfig().checkpoint
    assert loads(dump(config)) == config and override(config, {"name": "x"}).arguments == own
    assert config.notes == (
        "run.yaml:2: checkpoint: is read as an argument of the cli: save_top_k is no key of the run's own checkpoint",
        "run.yaml:3: storage: is read as an argument of the cli: bucket is no key of the run's own storage",
    )
    for mistake in ("cli: a.b:CLI\ncheckpoint: {kep: 2}\n", "model: a.B\ncheckpoint: {save_top_k: 2}\n"):
        with pytest.raises(ConfigError, match=r"run.yaml:2: checkpoint\.\w+: unknown key"):
            loads(mistake)


def test_a_gpu_that_is_kept_and_not_used_is_remarked() -> None:
    """Of trials alone: Ray's own ScalingConfig refuses it for workers."""
    text = "cli: a.b:CLI\nscaling: {use_gpu: false}\ntune: {metric: m, mode: max, space: {model.x: {choice: [1]}}, "
    (note,) = loads(text + "resources_per_trial: {GPU: 1}}\n").notes
    assert "tune.resources_per_trial.GPU" in note and "trains on the CPU" in note


def test_notes_count_neither_in_equality_nor_in_the_dump() -> None:
    one, other = loads(model("trainer: {accelerator: cpu}\n")), loads(model("scaling: {use_gpu: false}\n"))
    assert one.notes and not other.notes
    assert one == other
    assert one != override(other, {"scaling.use_gpu": True})
    assert "becomes" not in dump(one)
    assert pickle.loads(pickle.dumps(one)).notes == one.notes  # noqa: S301  what Ray does with it


def test_anchors_and_merge_keys() -> None:
    config = loads(
        model("trainer: {logger: &l {class_path: a.L, init_args: {x: 1}}, profiler: {<<: *l, class_path: a.P}}\n")
    )
    assert config.trainer["profiler"] == {"class_path": "a.P", "init_args": {"x": 1}}
    config.trainer["logger"]["init_args"]["x"] = 2
    assert config.trainer["profiler"]["init_args"] == {"x": 1}


def test_the_first_merge_key_wins() -> None:
    one, two = "&one {x: 1}", "&two {x: 2, y: 2}"
    for merges in ("<<: [*one, *two]", "<<: *one, <<: *two"):
        text = f"cli: a:B\none: {one}\ntwo: {two}\nmodel: {{{merges}}}\n"
        assert loads(text).model == {"x": 1, "y": 2}, merges


def test_aliases_of_aliases_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        loads("\n".join(lines))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ConfigError, match="nested too deep"):
        loads("model: " + "[" * 500)


def test_blocks_whose_keys_are_commented_out() -> None:
    assert loads(model("scaling:\ntrainer:\ncheckpoint:\nfailure:\nstorage:\ntune:\n")) == loads(model())


def test_a_sweep_is_needed() -> None:
    assert require_tune(loads(FULL)).metric == "val/acc"
    with pytest.raises(ConfigError, match=r"^tune: is missing"):
        require_tune(loads(model()))


@pytest.mark.parametrize(
    "trainer, scheduler, says",
    [
        ("{max_epochs: 3}", "{asha: {max_t: 5}}", "max_t: 5 is never reached: trials end after trainer.max_epochs = 3"),
        ("{max_epochs: 9}", "{asha: {max_t: 5}}", "max_t: trials are stopped after 5 epochs"),
        (
            "{max_epochs: 2}",
            "{pbt: {perturbation_interval: 2, mutations: {model.init_args.lr: [1]}}}",
            "no trial is ever",
        ),
    ],
)
def test_notes_of_epochs(trainer: str, scheduler: str, says: str) -> None:
    space = "space: {model.init_args.lr: {choice: [1]}}"
    text = model(f"trainer: {trainer}\ntune: {{metric: m, mode: min, scheduler: {scheduler}, {space}}}\n")
    (note,) = loads(text).notes
    assert says in note
    assert note.startswith("run.yaml:3: tune.scheduler.")
    changed = override(loads(text), {"seed_everything": 3}).with_notes([note, "another"])
    assert (changed.notes_of("tune"), changed.notes_of("train")) == ([note, "another"], ["another"])
    assert loads(text, overrides=["trainer.max_epochs=5", "tune.scheduler={asha: {max_t: 5}}"]).notes == ()


def test_note_of_a_grid() -> None:
    grid = "space: {model.init_args.lr: {grid_search: [1, 2]}, model.init_args.w: {grid_search: [1, 2, 3]}}"
    (note,) = loads(model(f"tune: {{metric: m, mode: min, num_samples: 2, {grid}}}\n")).notes
    assert "2 times a grid of 6 points: 12 trials" in note


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("trainer_app/examples/*/*.yaml")), ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_shipped_run_files(file: Path) -> None:
    config = load([file])
    assert config.notes == ()
    assert loads(dump(config)) == config


@pytest.mark.parametrize(
    ("scheduler", "noted"),
    [("hyperband", True), ("asha", False), ("{median: {hard_stop: false}}", True), ("median", False)],
)
def test_a_bound_on_concurrency_that_is_not_kept_is_remarked(scheduler: str, noted: bool) -> None:
    text = FULL.replace("scheduler: asha", f"scheduler: {scheduler}").replace("num_workers: 2", "num_workers: 1")
    notes = [note for note in loads(text).notes if "tune.max_concurrent_trials" in note]
    assert len(notes) == noted
    assert all("as many run at once as the resources allow" in note for note in notes)


MONITOR = "checkpoint: {monitor: val_loss, mode: min}\n"
SWEEP = "tune: {metric: val_acc, mode: max, space: {model.init_args.lr: {choice: [1]}}}\n"
LOSS, ACC = ("val_loss", "min"), ("val_acc", "max")


@pytest.mark.parametrize(
    "text, train, tune",
    [("", (None, None), (None, None)), (MONITOR, LOSS, LOSS), (SWEEP, ACC, ACC), (MONITOR + SWEEP, LOSS, ACC)],
)
def test_one_metric_decides(text: str, train: Any, tune: Any) -> None:
    """What a run is recorded and shown by (run.json) is what its workers keep checkpoints by."""
    from trainer_app.run.spec import RunSpec
    from trainer_app.training import worker

    config = loads(f"model: {{class_path: a.B, init_args: {{lr: 1}}}}\n{text}")
    spec = RunSpec(run="demo", uri="runs", config="", use_gpu=False)
    for task, metric in (("train", train), ("tune", tune)):
        policy = worker.policy(config, spec, task=task)
        assert config.selection_metric(task) == (policy.monitor, policy.mode) == metric
    noted = [note for note in config.notes if "tune.metric (val_acc) decides which checkpoints are kept" in note]
    assert bool(noted) == (train != tune)


@pytest.mark.parametrize("text", ["".join(f"k{i}: 1\n" for i in range(3000)), "a: " + "x" * (1 << 20)])
def test_a_file_of_many_wrong_keys_is_refused_in_seconds(text: str) -> None:
    """20,000 of them took two minutes: each had its line and its spelling looked for among all."""
    began = time.process_time()
    with pytest.raises(
        ConfigError, match=r"and 280\d more keys are wrong|more than 1048576, which take minutes"
    ) as refused:
        loads(text)
    assert len(refused.value.problems) <= 201 and time.process_time() - began < 10
