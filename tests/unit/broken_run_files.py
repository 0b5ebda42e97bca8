"""Run files that must be refused, each for one reason, with the key that the message must name."""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "model: {class_path: my.Net, init_args: {lr: 0.1}}\n"
DATA = "data: {class_path: my.Data}\n"


@dataclass(frozen=True)
class Broken:
    """One run file.

    Args:
        text: the whole file, or what stands below `model` if it begins with a `+`.
        key: the key of one of its problems; FILE stands for the file's name.
        says: a part of that problem's line.
        overrides: dotted overrides from the command line.
    """

    text: str
    key: str
    says: str
    overrides: tuple[str, ...] = ()

    @property
    def yaml(self) -> str:
        return MODEL + self.text[1:] if self.text.startswith("+") else self.text


def tune(body: str, *, more: str = "") -> str:
    """A sweep that is right but for `body`, which replaces keys of the same name."""
    keys = {
        "metric": "metric: val_loss",
        "mode": "mode: min",
        "space": "space: {model.init_args.lr: {uniform: [0, 1]}}",
    }
    lines = [line for name, line in keys.items() if f"{name}:" not in body.replace(f"_{name}:", "")]
    return f"+{more}tune:\n" + "".join(f"  {line}\n" for line in [*lines, *body.splitlines()])


def space(primitive: str) -> str:
    return tune(f"space: {{model.init_args.lr: {primitive}}}")


_LR = "tune.space.model.init_args.lr"
_PBT = "tune.scheduler.pbt"
_MUTATIONS = f"{_PBT}.mutations"

YAML = {
    "empty": Broken("", "FILE", "is empty"),
    "only comments": Broken("# nothing\n", "FILE", "is empty"),
    "a list": Broken("- model\n", "FILE", "not a mapping"),
    "a string": Broken("model\n", "FILE", "not a mapping"),
    "open bracket": Broken("name: a\nmodel: [1, 2\n\n", "YAML", "while parsing a flow sequence, opened in line 2"),
    "bad indent": Broken("model:\n    a: 1\n  b: 2\n", "YAML", "run.yaml:3"),
    "tab": Broken("trainer:\n\tmax_epochs: 1\n", "YAML", "spaces"),
    "control character": Broken("model: a\x00b\n", "FILE", "not YAML"),
    "two documents": Broken(f"{MODEL}---\n{MODEL}", "YAML", "several documents"),
    "duplicate key": Broken("+trainer:\n  max_epochs: 1\n  max_epochs: 2\n", "trainer.max_epochs", "first in line 3"),
    "duplicate block": Broken(MODEL + DATA + DATA, "data", "duplicate key"),
    "undefined alias": Broken("+trainer: *nowhere\n", "YAML", "undefined alias"),
    "alias in itself": Broken("+trainer: &t {logger: *t}\n", "trainer.logger", "alias inside"),
    "python tag": Broken("+trainer: {logger: !!python/object:os.system x}\n", "trainer.logger", "tag"),
    "own tag": Broken("+trainer: !mine {max_epochs: 1}\n", "trainer", "tag !mine"),
    "merge of a number": Broken("+trainer: {<<: 3}\n", "trainer.<<", "merge key"),
    "number as key": Broken("+3: x\n", "3", "must be a string"),
    "list as key": Broken("+? [a]\n: 1\n", "a list or mapping", "must be a string"),
    "int tag": Broken("+scaling: {num_workers: !!int many}\n", "scaling.num_workers", "is not an integer"),
}
BLOCKS = {
    "no model": Broken("trainer: {max_epochs: 1}\n", "model", "is missing"),
    "null model": Broken("model: null\n", "model", "is missing"),
    "unknown block": Broken("+modle: {}\n", "modle", "YourCLI; did you mean model?"),
    "block of another place": Broken("+num_workers: 2\n", "num_workers", "unknown key"),
    "notes are not a key": Broken("+notes: [x]\n", "notes", "unknown key"),
    "arguments without cli": Broken("+arguments: {x: 1}\n", "arguments", "cli"),
    "no class_path": Broken("model: {layer_1: 2}\n", "model.class_path", "is missing"),
    "empty model": Broken("model: {}\n", "model.class_path", "is missing"),
    "short class_path": Broken("model: {class_path: Net}\n", "model.class_path", "package.module.Class"),
    "class_path a number": Broken("model: {class_path: 3}\n", "model.class_path", "package.module.Class"),
    "class_path with dashes": Broken("model: {class_path: my-pkg.Net}\n", "model.class_path", "found 'my-pkg.Net'"),
    "argument beside class_path": Broken("model: {class_path: a.B, lr: 1}\n", "model.lr", "init_args.lr"),
    "init_arg": Broken("model: {class_path: a.B, init_arg: {}}\n", "model.init_arg", "init_args"),
    "init_args a list": Broken("model: {class_path: a.B, init_args: [1]}\n", "model.init_args", "mapping"),
    "model a list": Broken("model: [a.B]\n", "model", "mapping"),
    "model a file": Broken("model: net.yaml\n", "model", "no such file"),
    "data without class_path": Broken("+data: {batch_size: 3}\n", "data.class_path", "is missing"),
    "optimizer without class": Broken("+optimizer: {lr: 0.1}\n", "optimizer.class_path", "is missing"),
    "lr_scheduler a number": Broken("+lr_scheduler: 3\n", "lr_scheduler", "mapping"),
    "seed a string": Broken("+seed_everything: one\n", "seed_everything", "must be an integer"),
    "seed negative": Broken("+seed_everything: -1\n", "seed_everything", "4294967295"),
    "seed a float": Broken("+seed_everything: 1.5\n", "seed_everything", "must be an integer"),
    "ckpt_path a number": Broken("+ckpt_path: 3\n", "ckpt_path", "must be a string"),
    "cli a path": Broken("cli: my/cli\n", "cli", "package.module:"),
    "cli without colon": Broken("cli: my.cli.CLI\n", "cli", "package.module:"),
    "name upper case": Broken("+name: MNIST\n", "name", "mnist"),
    "name underscore": Broken("+name: my_run\n", "name", "my-run"),
    "name ends with dash": Broken("+name: my-run-\n", "name", "dash"),
    "name a digit first": Broken("+name: 3d\n", "name", "begin with a letter"),
    "name too long": Broken(f"+name: {'a' * 32}\n", "name", "at most 31"),
    "name a number": Broken("+name: 3\n", "name", "must be a string"),
    "fit twice": Broken("+fit: {model: {class_path: a.B}}\n", "fit.model", "top level too"),
    "fit a string": Broken("+fit: yes\n", "fit", "unknown key"),
    "another subcommand": Broken("+subcommand: predict\n", "subcommand", "unknown key"),
}
TRAINER = {
    "unknown key": Broken("+trainer: {max_epoch: 5}\n", "trainer.max_epoch", "did you mean max_epochs"),
    "Lightning 1 key": Broken("+trainer: {gpus: 2}\n", "trainer.gpus", "unknown key"),
    "trainer a list": Broken("+trainer: [1]\n", "trainer", "mapping"),
    "epochs a string": Broken("+trainer: {max_epochs: five}\n", "trainer.max_epochs", "must be an integer"),
    "epochs a float": Broken("+trainer: {max_epochs: 5.0}\n", "trainer.max_epochs", "found 5.0"),
    "epochs zero": Broken("+trainer: {max_epochs: 0}\n", "trainer.max_epochs", "at least 1"),
    "steps -2": Broken("+trainer: {max_steps: -2}\n", "trainer.max_steps", "-1"),
    "yes is a string": Broken("+trainer: {detect_anomaly: yes}\n", "trainer.detect_anomaly", "true or false"),
    "clip a string": Broken("+trainer: {gradient_clip_val: big}\n", "trainer.gradient_clip_val", "a number"),
    "callbacks a number": Broken("+trainer: {callbacks: 3}\n", "trainer.callbacks", "must be a list"),
    "callback without class": Broken("+trainer: {callbacks: [{patience: 3}]}\n", "trainer.callbacks.0", "class_path"),
    "callback's argument": Broken(
        "+trainer: {callbacks: [{class_path: a.B, patience: 3}]}\n",
        "trainer.callbacks.0.patience",
        "init_args.patience",
    ),
    "logger without class": Broken("+trainer: {logger: {save_dir: x}}\n", "trainer.logger.class_path", "is missing"),
}
OURS = {
    "no workers": Broken("+scaling: {num_workers: 0}\n", "scaling.num_workers", "at least 1"),
    "workers a string": Broken("+scaling: {num_workers: '2'}\n", "scaling.num_workers", "must be an integer"),
    "workers true": Broken("+scaling: {num_workers: true}\n", "scaling.num_workers", "must be an integer"),
    "scaling typo": Broken(
        "+scaling: {num_worker: 2}\n", "scaling.num_worker", "process_group_backend; did you mean num_workers?"
    ),
    "scaling a number": Broken("+scaling: 4\n", "scaling", "mapping"),
    "use_gpu a number": Broken("+scaling: {use_gpu: 1}\n", "scaling.use_gpu", "true, false or auto"),
    "use_gpu always": Broken("+scaling: {use_gpu: always}\n", "scaling.use_gpu", "true, false or auto"),
    "placement": Broken("+scaling: {placement_strategy: pack}\n", "scaling.placement_strategy", "'STRICT_PACK'"),
    "resources negative": Broken(
        "+scaling: {resources_per_worker: {CPU: -1}}\n", "scaling.resources_per_worker.CPU", "at least 0"
    ),
    "resources a string": Broken(
        "+scaling: {resources_per_worker: {memory: 4Gi}}\n", "scaling.resources_per_worker.memory", "a number"
    ),
    "GPU without use_gpu": Broken(
        "+scaling: {use_gpu: false, resources_per_worker: {GPU: 1}}\n", "scaling.resources_per_worker.GPU", "use_gpu"
    ),
    "use_gpu without GPU": Broken(
        "+scaling: {use_gpu: true, resources_per_worker: {GPU: 0}}\n", "scaling.resources_per_worker.GPU", "use_gpu"
    ),
    "workers that share a GPU": Broken(
        "+scaling: {num_workers: 2, resources_per_worker: {GPU: 0.5}}\n", "scaling.resources_per_worker.GPU", "NCCL"
    ),
    "TPU": Broken("+scaling: {resources_per_worker: {TPU: 4}}\n", "scaling.resources_per_worker.TPU", "not supported"),
    "accelerator on CPU": Broken(
        "+scaling: {use_gpu: false, accelerator_type: A100}\n", "scaling.accelerator_type", "use_gpu is false"
    ),
    "timeout zero": Broken("+scaling: {timeout_s: 0}\n", "scaling.timeout_s", "greater than 0"),
    "timeout infinite": Broken("+scaling: {timeout_s: .inf}\n", "scaling.timeout_s", "finite"),
    "keep nothing": Broken("+checkpoint: {keep: 0}\n", "checkpoint.keep", "at least 1"),
    "monitor without mode": Broken(
        "+checkpoint: {monitor: val_loss}\n", "checkpoint.mode", "is missing with monitor: val_loss; allowed: min, max"
    ),
    "mode without monitor": Broken("+checkpoint: {mode: min}\n", "checkpoint.monitor", "is missing"),
    "mode best": Broken("+checkpoint: {monitor: x, mode: best}\n", "checkpoint.mode", "'min' or 'max'"),
    "checkpoint typo": Broken("+checkpoint: {every_epochs: 2}\n", "checkpoint.every_epochs", "every_n_epochs"),
    "failures -2": Broken("+failure: {max_failures: -2}\n", "failure.max_failures", "at least -1"),
    "failure typo": Broken("+failure: {retries: 2}\n", "failure.retries", "max_failures"),
    "storage a string": Broken("+storage: s3://bucket\n", "storage", "mapping"),
    "storage empty": Broken("+storage: {uri: ''}\n", "storage.uri", "is empty"),
    "storage gs": Broken("+storage: {uri: gs://bucket/x}\n", "storage.uri", "unknown kind"),
    "storage without bucket": Broken("+storage: {uri: s3:///x}\n", "storage.uri", "no bucket"),
    "storage two slashes": Broken("+storage: {uri: file://runs}\n", "storage.uri", "three slashes"),
    "storage option": Broken("+storage: {uri: 's3://b?zone=1'}\n", "storage.uri", "unknown option 'zone'"),
    "storage password": Broken("+storage: {uri: 's3://AK:CANARY@bucket/x'}\n", "storage.uri", "credentials"),
    "storage password without host": Broken("+storage: {uri: 's3://AK:CANARY/x'}\n", "storage.uri", "credentials"),
    "storage secret": Broken("+storage: {uri: 's3://b?secret_key=CANARY'}\n", "storage.uri", "credentials"),
    "storage endpoint password": Broken(
        "+storage: {uri: 's3://b?endpoint_override=http://u:CANARY@h:1'}\n", "storage.uri", "credentials"
    ),
    "storage key": Broken("+storage: {access_key: CANARY}\n", "storage.access_key", "unknown key"),
}
SWEEP = {
    "no metric": Broken(tune("").replace("  metric: val_loss\n", ""), "tune.metric", "is missing; metric that decides"),
    "no mode": Broken(tune("").replace("  mode: min\n", ""), "tune.mode", "is missing; allowed: min, max"),
    "mode": Broken(tune("mode: lowest"), "tune.mode", "'min' or 'max'"),
    "no samples": Broken(tune("num_samples: 0"), "tune", "num_samples must be at least 1"),
    "samples -1": Broken(tune("num_samples: -1"), "tune", "time_budget_s"),
    "samples -2": Broken(tune("num_samples: -2"), "tune.num_samples", "at least -1"),
    "no time": Broken(tune("time_budget_s: 0"), "tune.time_budget_s", "greater than 0"),
    "no trial at once": Broken(tune("max_concurrent_trials: 0"), "tune.max_concurrent_trials", "at least 1"),
    "tune typo": Broken(tune("num_sample: 3"), "tune.num_sample", "did you mean num_samples"),
    "no space": Broken(tune("space: {}"), "tune.space", "has no keys"),
    "space a list": Broken(tune("space: [1]"), "tune.space", "mapping"),
    "constant": Broken(space("0.1"), _LR, "one primitive"),
    "unknown primitive": Broken(space("{choices: [1]}"), f"{_LR}.choices", "did you mean choice"),
    "two primitives": Broken(space("{choice: [1], uniform: [0, 1]}"), _LR, "takes one primitive"),
    "no primitive": Broken(space("{}"), _LR, "takes one primitive"),
    "empty choice": Broken(space("{choice: []}"), f"{_LR}.choice", "no values"),
    "choice a number": Broken(space("{choice: 3}"), f"{_LR}.choice", "a list of values"),
    "empty grid": Broken(space("{grid_search: []}"), f"{_LR}.grid_search", "no values"),
    "bounds turned": Broken(space("{uniform: [1, 0]}"), f"{_LR}.uniform", "lower (1.0) must be less than upper (0.0)"),
    "bounds equal": Broken(space("{loguniform: [1, 1]}"), f"{_LR}.loguniform", "less than"),
    "log of zero": Broken(space("{loguniform: [0, 1]}"), f"{_LR}.loguniform", "greater than 0"),
    "log of negative": Broken(space("{lograndint: [-4, 4]}"), f"{_LR}.lograndint", "greater than 0"),
    "q zero": Broken(space("{quniform: [0, 1, 0]}"), f"{_LR}.quniform", "q (0.0) must be"),
    "q does not divide": Broken(space("{quniform: [0, 1, 0.3]}"), f"{_LR}.quniform", "multiple of q"),
    "q of integers": Broken(space("{qrandint: [5, 20, 10]}"), f"{_LR}.qrandint", "lower (5) must be a multiple"),
    "q of logarithms": Broken(space("{qloguniform: [0, 1, 0.1]}"), f"{_LR}.qloguniform", "greater than 0"),
    "q of whole logarithms": Broken(space("{qlograndint: [4, 2, 2]}"), f"{_LR}.qlograndint", "less than"),
    "randint of floats": Broken(space("{randint: [0, 1.5]}"), f"{_LR}.randint.upper", "must be an integer"),
    "no upper": Broken(space("{uniform: [0]}"), f"{_LR}.uniform.upper", "is missing"),
    "too many bounds": Broken(space("{uniform: [0, 1, 2]}"), f"{_LR}.uniform", "at most 2"),
    "bound typo": Broken(
        space("{uniform: {lower: 0, upper: 1, uper: 1}}"), f"{_LR}.uniform.uper", "did you mean upper"
    ),
    "bounds a number": Broken(space("{uniform: 3}"), f"{_LR}.uniform", "list or a mapping"),
    "infinite bound": Broken(space("{uniform: [0, .inf]}"), f"{_LR}.uniform.upper", "finite"),
    "sd zero": Broken(space("{randn: [0, 0]}"), f"{_LR}.randn.sd", "greater than 0"),
    "sample_from a lambda": Broken(space("{sample_from: 'lambda s: 1'}"), f"{_LR}.sample_from", "package.module:"),
}
KEYS = {
    key: Broken(tune(f"space: {{{key}: {{choice: [1, 2]}}}}"), f"tune.space.{key}", says)
    for key, says in {
        "model.lr": "did you mean model.init_args.lr",
        "model": "whole block",
        "lr": "no such block",
        "storage.uri": "one storage",
        "name": "one name",
        "tune.num_samples": "the sweep itself",
        "scaling.num_workers": "same workers",
        "seed_everything": "the run's seed",
        "trainer.devices": "scaling decides",
        "trainer.max_epoch": "did you mean max_epochs",
        "data.init_args.batch_size": "no block data",
        "model.init_args.lr.deep": "it has no keys",
        "model..lr": "whole block",
    }.items()
}
KEYS["prefix"] = Broken(
    tune("space: {model.init_args.opt: {choice: [1]}, model.init_args.opt.lr: {choice: [1]}}"),
    "tune.space.model.init_args.opt.lr",
    "is inside model.init_args.opt",
)
KEYS["no such callback"] = Broken(
    tune(
        "space: {trainer.callbacks.1.init_args.p: {choice: [1]}}",
        more="trainer: {callbacks: [{class_path: a.B}]}\n",
    ),
    "tune.space.trainer.callbacks.1.init_args.p",
    "not an index",
)
_WORKERS = "scaling: {num_workers: 2}\n"
_PBT_OK = "scheduler: {pbt: {mutations: {model.init_args.lr: [0.1, 0.2]}}}"
RULES = {
    "unknown scheduler": Broken(tune("scheduler: ahsa"), "tune.scheduler", "unknown scheduler"),
    "unknown scheduler with arguments": Broken(tune("scheduler: {ahsa: {}}"), "tune.scheduler.ahsa", "asha"),
    "two schedulers": Broken(tune("scheduler: {asha: {}, pbt: {}}"), "tune.scheduler", "takes one scheduler"),
    "scheduler a list": Broken(tune("scheduler: [asha]"), "tune.scheduler", "mapping"),
    "asha typo": Broken(tune("scheduler: {asha: {max_epochs: 3}}"), "tune.scheduler.asha.max_epochs", "max_t"),
    "grace above max_t": Broken(
        tune("scheduler: {asha: {max_t: 2, grace_period: 3}}"), "tune.scheduler.asha", "at most max_t (2)"
    ),
    "grace above max_epochs": Broken(
        tune("scheduler: {asha: {grace_period: 3}}", more="trainer: {max_epochs: 2}\n"),
        "tune.scheduler.asha.grace_period",
        "trainer.max_epochs (2)",
    ),
    "factor one": Broken(
        tune("scheduler: {asha: {reduction_factor: 1}}"), "tune.scheduler.asha.reduction_factor", "greater than 1"
    ),
    "brackets zero": Broken(tune("scheduler: {asha: {brackets: 0}}"), "tune.scheduler.asha.brackets", "at least 1"),
    "hyperband grace": Broken(
        tune("scheduler: {hyperband: {grace_period: 1}}"), "tune.scheduler.hyperband.grace_period", "unknown key"
    ),
    "hyperband without end": Broken(
        tune("scheduler: hyperband", more="trainer: {max_epochs: -1}\n"), "tune.scheduler.hyperband.max_t", "no end"
    ),
    "median samples": Broken(
        tune("scheduler: {median: {min_samples_required: 0}}"), "tune.scheduler.median.min_samples_required", "1"
    ),
    "hyperband of many workers": Broken(
        tune("scheduler: hyperband", more=_WORKERS), "tune.scheduler.hyperband", "can't be paused"
    ),
    "pbt of many workers": Broken(tune(_PBT_OK, more=_WORKERS), _PBT, "can't be paused"),
    "pausing median of many workers": Broken(
        tune("scheduler: {median: {hard_stop: false}}", more=_WORKERS), "tune.scheduler.median", "can't be paused"
    ),
    "pbt without mutations": Broken(tune("scheduler: pbt"), _MUTATIONS, "is missing"),
    "pbt mutates from nothing": Broken(
        tune("scheduler: {pbt: {mutations: {model.init_args.wd: [1]}}}"),
        f"{_MUTATIONS}.model.init_args.wd",
        "no initial value",
    ),
    "pbt mutates by function": Broken(
        tune("scheduler: {pbt: {mutations: {model.init_args.lr: {sample_from: 'a:b'}}}}"),
        f"{_MUTATIONS}.model.init_args.lr.sample_from",
        "draw from it",
    ),
    "pbt mutates a grid": Broken(
        tune("scheduler: {pbt: {mutations: {model.init_args.lr: {grid_search: [1]}}}}"),
        f"{_MUTATIONS}.model.init_args.lr.grid_search",
        "draw from it",
    ),
    "pbt mutates a class": Broken(
        tune("scheduler: {pbt: {mutations: {model.class_path: [a.B, a.C]}}}"),
        f"{_MUTATIONS}.model.class_path",
        "weights",
    ),
    "pbt mutates storage": Broken(
        tune("scheduler: {pbt: {mutations: {storage.uri: [a, b]}}}"), f"{_MUTATIONS}.storage.uri", "one storage"
    ),
    "pbt empty list": Broken(
        tune("scheduler: {pbt: {mutations: {model.init_args.lr: []}}}"),
        f"{_MUTATIONS}.model.init_args.lr",
        "at least 1",
    ),
    "pbt quantile": Broken(
        tune(_PBT_OK.replace("pbt: {", "pbt: {quantile_fraction: 0.6, ")), f"{_PBT}.quantile_fraction", "at most 0.5"
    ),
    "pbt interval": Broken(
        tune(_PBT_OK.replace("pbt: {", "pbt: {perturbation_interval: 0, ")),
        f"{_PBT}.perturbation_interval",
        "at least 1",
    ),
    "pbt with optuna": Broken(tune(f"searcher: optuna\n{_PBT_OK}"), "tune.searcher", "pbt proposes"),
    "unknown searcher": Broken(tune("searcher: hyperopt"), "tune.searcher", "unknown searcher"),
    "optuna typo": Broken(tune("searcher: {optuna: {sed: 1}}"), "tune.searcher.optuna.sed", "seed"),
    "optuna's sampler": Broken(tune("searcher: {optuna: {sampler: bohb}}"), "tune.searcher.optuna.sampler", "tpe"),
    "optuna parameter of another sampler": Broken(
        tune("searcher: {optuna: {sampler: gp, multivariate: true}}"), "tune.searcher.optuna", "not for sampler gp"
    ),
    "optuna cma-es and several metrics": Broken(
        tune("searcher: {optuna: {sampler: cmaes, metrics: {size: min}}}"), "tune.searcher.optuna", "one metric"
    ),
    "optuna metrics that have tune.metric": Broken(
        tune("searcher: {optuna: {metrics: {val_loss: max}}}"), "tune", "which is tune.metric"
    ),
    "optuna alone learns from start_from": Broken(
        tune("start_from: [earlier]"), "tune.start_from", "learns from no trials"
    ),
    "bohb": Broken(tune("searcher: bohb"), "tune.searcher", "hpbandster"),
    "pb2": Broken(tune("scheduler: pb2"), "tune.scheduler", "method: pb2"),
    "pbt by pb2 without bounds": Broken(
        tune(_PBT_OK.replace("pbt: {", "pbt: {method: pb2, ")),
        _PBT,
        "two bounds",
    ),
    "resources and workers": Broken(
        tune("resources_per_trial: {CPU: 1}", more=_WORKERS), "tune.resources_per_trial", "resources_per_worker"
    ),
}
for _kind, _args in {
    "grid_search": "[1, 2]",
    "randn": "[0, 1]",
    "qrandn": "[0, 1, 0.1]",
    "sample_from": "'a.b:c'",
    "qloguniform": "[0.1, 1, 0.1]",
    "qlograndint": "[2, 8, 2]",
}.items():
    RULES[f"optuna {_kind}"] = Broken(
        tune(f"searcher: optuna\nspace: {{model.init_args.lr: {{{_kind}: {_args}}}}}"),
        f"{_LR}.{_kind}",
        "searcher optuna",
    )
COMMAND_LINE = {
    "unknown key": Broken("+", "trainer.max_epoch", "did you mean max_epochs", ("trainer.max_epoch=1",)),
    "unknown block": Broken("+", "trianer", "did you mean trainer", ("trianer.max_epochs=1",)),
    "wrong value": Broken("+", "scaling.num_workers", "found 'two'", ("scaling.num_workers=two",)),
    "not YAML": Broken("+", "trainer.max_epochs", "not YAML", ("trainer.max_epochs=[1",)),
    "no value": Broken("+", "trainer.max_epochs", "dotted key", ("trainer.max_epochs",)),
    "no key": Broken("+", "=3", "dotted key", ("=3",)),
    "empty step": Broken("+", "trainer..x=3", "dotted key", ("trainer..x=3",)),
    "no such item": Broken("+", "trainer.callbacks.0.init_args.p", "list is empty", (
        "trainer.callbacks=[]",
        "trainer.callbacks.0.init_args.p=3",
    )),
    "below a number": Broken("+", "model.init_args.lr.x", "it has no keys", ("model.init_args.lr.x=3",)),
    "below a list": Broken("+", "model.init_args.w.last", "is a list", (
        "model.init_args.w=[1]",
        "model.init_args.w.last=3",
    )),
    "fit": Broken("+", "fit", "without fit.", ("fit.trainer.max_epochs=1",)),
    "space": Broken("+" + tune("")[1:], "tune.space.model.lr", "init_args.lr", ("tune.space.model.lr={choice: [1]}",)),
}  # fmt: skip
GROUPS = {
    "yaml": YAML,
    "blocks": BLOCKS,
    "trainer": TRAINER,
    "ours": OURS,
    "sweep": SWEEP,
    "keys": KEYS,
    "rules": RULES,
    "command line": COMMAND_LINE,
}
BROKEN = {f"{group}: {name}": broken for group, table in GROUPS.items() for name, broken in table.items()}
