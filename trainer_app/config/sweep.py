"""Rules across the block `tune` and the rest: what Ray would refuse late, ignore silently or never end."""

from __future__ import annotations

from typing import Any

from trainer_app.config.draft import Draft, Path, get_value, suggest_spelling
from trainer_app.config.lightning.keys import TRAINER_KEYS
from trainer_app.config.models import RunConfig
from trainer_app.config.overrides import set_value
from trainer_app.config.space import Primitive
from trainer_app.config.tuning import Pbt, Tune

ROOTS = ("model", "data", "trainer", "optimizer", "lr_scheduler")
_FIXED = {
    "storage": "the sweep writes all its trials to one storage",
    "name": "the sweep has one name",
    "tune": "it is the sweep itself",
    "scaling": "all trials have the same workers",
    "checkpoint": "it is the same for all trials",
    "failure": "it is the same for all trials",
    "find": "a sweep searches by its space",
    "cli": "all trials run the same code",
    "ckpt_path": "all trials start from the same checkpoint",
    "seed_everything": "all trials have the run's seed",
}
_TRAINER_FIXED = ("accelerator", "strategy", "devices", "num_nodes")
_NOT_OPTUNA = {
    "grid_search": "Optuna has no grid",
    "randn": "Optuna has no normal distribution",
    "qrandn": "Optuna has no normal distribution",
    "sample_from": "Optuna can't call functions",
    "qloguniform": "Optuna does not round on a logarithmic scale: Ray ignores q silently",
    "qlograndint": "Optuna does not round on a logarithmic scale: Ray ignores q silently",
}
_SPACE: Path = ("tune", "space")
_MUTATIONS: Path = ("tune", "scheduler", "pbt", "mutations")


def check_sweep(draft: Draft, config: RunConfig, tune: Tune) -> None:
    """Report what is wrong or surprising in the block `tune`.

    Args:
        draft: gets the problems and notes.
        config: the whole run file.
        tune: its block `tune`.
    """
    before = len(draft.notes)
    mutations = tune.scheduler.args.mutations if tune.scheduler.kind == "pbt" else {}
    if not tune.space and not mutations and not any(p.key.startswith("tune.space") for p in draft.problems):
        draft.report(_SPACE, "has no keys", allowed="for example {model.init_args.lr: {loguniform: [1.0e-4, 0.1]}}")
    for at in (_SPACE, _MUTATIONS):
        written = get_value(draft.tree, at)
        keys = [str(key) for key in written] if isinstance(written, dict) else []
        for key in keys:
            _check_key(draft, config, at, key)
        _check_prefixes(draft, at, keys)
    _check_searcher(draft, tune)
    _check_workers(draft, config, tune)
    if isinstance(tune.scheduler.args, Pbt):
        _check_pbt(draft, config, tune, tune.scheduler.args)
    _note_metric(draft, config, tune)
    _note_epochs(draft, config, tune)
    _note_samples(draft, tune)
    _note_concurrency(draft, tune)
    if config.find is not None:
        draft.note(("find",), "a sweep does not use it: name the keys in tune.space")
    draft.sweep_notes += draft.notes[before:]


def _check_key(draft: Draft, config: RunConfig, at: Path, key: str) -> None:
    """Check that a trial may change this key, and that the run file can hold it."""
    here, parts = (*at, key), key.split(".")
    root, rest = parts[0], parts[1:]
    if root in _FIXED:
        draft.report(here, f"a trial can't change {root}: {_FIXED[root]}", allowed=f"allowed: {', '.join(ROOTS)}")
    elif root not in ROOTS and config.cli is None:
        draft.report(here, "no such block", allowed=suggest_spelling(root, list(ROOTS)))
    elif root in ROOTS and (not rest or not all(parts)):
        draft.report(here, "names a whole block", allowed=f"a key in it, for example {root}.init_args.lr")
    elif not all(parts):
        draft.report(here, "is not a dotted key", allowed="for example model.init_args.lr")
    elif root == "trainer" and rest[0] in _TRAINER_FIXED:
        draft.report(here, f"a trial can't change {key}: scaling decides, the same for all trials")
    elif root == "trainer" and rest[0] not in TRAINER_KEYS and config.cli is None:
        draft.report(here, "unknown key", allowed=suggest_spelling(rest[0], list(TRAINER_KEYS)))
    elif root in ROOTS[:2] and config.cli is None and rest[0] not in ("class_path", "init_args", "dict_kwargs"):
        draft.report(here, "unknown key", allowed=f"did you mean {root}.init_args.{'.'.join(rest)}?")
    else:
        _check_place(draft, config, here, key)


def _check_place(draft: Draft, config: RunConfig, here: Path, key: str) -> None:
    root = key.split(".")[0]
    if root in ROOTS[:2] and getattr(config, root) is None and config.cli is None:
        draft.report(here, f"the run file has no block {root}", allowed="a trial only changes what the run file has")
        return
    scratch = Draft(tree=config.tree)
    set_value(scratch, key, None)
    for problem in scratch.problems:
        draft.report(here, problem.message, allowed=problem.allowed)


def _check_prefixes(draft: Draft, at: Path, keys: list[str]) -> None:
    for key in keys:
        for other in keys:
            if other.startswith(f"{key}."):
                draft.report((*at, other), f"is inside {key}, which is drawn too", allowed="draw one of them")


def _check_searcher(draft: Draft, tune: Tune) -> None:
    if tune.searcher.kind != "optuna":
        if tune.start_from:
            reason = f"the searcher {tune.searcher.kind} learns from no trials"
            draft.report(("tune", "start_from"), reason, allowed="searcher: optuna")
        return
    for key, primitive in tune.space.items():
        if primitive.kind in _NOT_OPTUNA:
            reason = f"not with searcher optuna: {_NOT_OPTUNA[primitive.kind]}"
            draft.report((*_SPACE, key, primitive.kind), reason, allowed="searcher: random, or another primitive")
    if tune.scheduler.kind == "pbt":
        reason = "pbt proposes parameters itself: Ray allows no searcher with it"
        draft.report(("tune", "searcher"), reason, "optuna", "searcher: random, or another scheduler")


def _check_workers(draft: Draft, config: RunConfig, tune: Tune) -> None:
    workers = config.scaling.num_workers
    if tune.resources_per_trial and config.scaling.use_gpu is False and tune.resources_per_trial.get("GPU"):
        at = ("tune", "resources_per_trial", "GPU")
        draft.note(at, "a GPU is reserved for each trial, which trains on the CPU: scaling.use_gpu is false")
    if workers == 1:
        return
    scheduler = tune.scheduler
    if scheduler.pauses:
        at = ("tune", "scheduler", scheduler.kind)
        reason = f"it pauses trials, and one of {workers} workers (scaling.num_workers) can't be paused"
        draft.report(at, reason, allowed="asha, median with hard_stop, fifo; or scaling.num_workers: 1")
    if tune.resources_per_trial is not None:
        reason = f"a trial here has {workers} workers (scaling.num_workers)"
        draft.report(("tune", "resources_per_trial"), reason, allowed="set scaling.resources_per_worker")


def _check_pbt(draft: Draft, config: RunConfig, tune: Tune, pbt: Pbt) -> None:
    if not pbt.mutations and not any(p.key.startswith(".".join(_MUTATIONS)) for p in draft.problems):
        draft.report(_MUTATIONS, "is missing", allowed="for example {model.init_args.lr: {loguniform: [1.0e-4, 0.1]}}")
    for key, mutation in pbt.mutations.items():
        here = (*_MUTATIONS, key)
        kind = mutation.kind if isinstance(mutation, Primitive) else "list"
        if kind in ("sample_from", "grid_search"):
            draft.report((*here, kind), "pbt can't draw from it anew", allowed="a list, or another primitive")
        if key.rpartition(".")[2] == "class_path":
            draft.report(here, "a trial resumes from the weights of another, which another class doesn't have")
        if key not in tune.space and get_value(config.tree, tuple(key.split("."))) is None:
            draft.report(here, "has no initial value", allowed=f"put {key} in tune.space, or a value in its block")
    if config.max_epochs != -1 and pbt.perturbation_interval >= config.max_epochs:
        at = ("tune", "scheduler", "pbt", "perturbation_interval")
        draft.note(at, f"{pbt.perturbation_interval} of {config.max_epochs} epochs: no trial is ever changed")


def _note_metric(draft: Draft, config: RunConfig, tune: Tune) -> None:
    monitor, mode = config.checkpoint.monitor, config.checkpoint.mode
    if monitor is not None and (monitor, mode) != (tune.metric, tune.mode):
        text = f"{monitor} is not used by trainer tune: tune.metric ({tune.metric}) decides which checkpoints are kept"
        draft.note(("checkpoint", "monitor"), text)


def _note_epochs(draft: Draft, config: RunConfig, tune: Tune) -> None:
    """Note a max_t other than trainer.max_epochs: a larger one is harmless, as a trial ends with its last epoch."""
    max_t: Any = getattr(tune.scheduler.args, "max_t", None)
    if max_t is None:
        _check_no_max_t(draft, config, tune)
        return
    if "max_epochs" not in config.trainer or config.max_epochs in (-1, max_t):
        return
    at = ("tune", "scheduler", tune.scheduler.kind, "max_t")
    if max_t > config.max_epochs:
        draft.note(at, f"{max_t} is never reached: trials end after trainer.max_epochs = {config.max_epochs}")
    elif tune.scheduler.args.stop_last_trials:
        draft.note(at, f"trials are stopped after {max_t} epochs, before trainer.max_epochs = {config.max_epochs}")


def _check_no_max_t(draft: Draft, config: RunConfig, tune: Tune) -> None:
    """Check the bounds of a scheduler whose max_t is trainer.max_epochs."""
    kind, grace = tune.scheduler.kind, getattr(tune.scheduler.args, "grace_period", 1)
    if kind == "hyperband" and config.max_epochs == -1:
        fault = "is missing, and trainer.max_epochs has no end"
        draft.report(("tune", "scheduler", kind, "max_t"), fault, allowed="a number of epochs here or there")
    if kind == "asha" and grace > config.max_epochs > 0:
        at = ("tune", "scheduler", kind, "grace_period")
        draft.report(at, f"is more than trainer.max_epochs ({config.max_epochs})", grace)


def _note_concurrency(draft: Draft, tune: Tune) -> None:
    if tune.max_concurrent_trials is not None and tune.scheduler.pauses:
        text = f"{tune.scheduler.kind} pauses trials in favour of others: as many run at once as the resources allow"
        draft.note(("tune", "max_concurrent_trials"), f"not used: {text}; a larger tune.resources_per_trial lowers it")


def _note_samples(draft: Draft, tune: Tune) -> None:
    total = tune.num_trials and tune.num_trials - (tune.repeat.trials if tune.repeat else 0)
    if total is not None and total > tune.num_samples > 1:
        points = total // tune.num_samples
        draft.note(("tune", "num_samples"), f"{tune.num_samples} times a grid of {points} points: {total} trials")
