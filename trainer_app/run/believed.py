"""What a run that is resumed or tested takes from its storage, where every run of the same keys can write.

Which classes a checkpoint may hold and from which folders modules are imported is never among it: that comes from the
command line, from the user's own run file, or in a pod from the submitted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainer_app.config import RunConfig, dump, loads, override
from trainer_app.errors import InputError
from trainer_app.records.plain_json import to_json, to_plain

# What a run chooses for itself where its run file leaves it open.
_CHOSEN: Final = ("seed_everything", "scaling", "model", "data", "trainer.max_epochs", "trainer.max_steps")


def load_stored(text: str, *, run: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return a stored run file with this command's overrides, and without the storage's `checkpoint.allow`.

    Raises:
        InputError: it has classes in `checkpoint.allow`, and the command names none.
        ConfigError: the file or an override is wrong.
    """
    file = f"{run}/run.yaml"
    stored = loads(text, file=file)
    allow = stored.checkpoint.allow
    if allow:
        text = dump(override(stored, {"checkpoint.allow": []}))
    config = loads(text, file=file, overrides=list(overrides))
    if allow and not config.checkpoint.allow:
        options = " ".join(f"--allow {name}" for name in allow)
        raise InputError(
            f"run {run}: its stored run file lets checkpoints hold {', '.join(allow)}, which its storage can't decide; "
            f"if you trust them: {options}, or give your own run file"
        )
    return config


def allow_override(allow: Sequence[str]) -> list[str]:
    """Return the override of a run file by which its checkpoints may hold these classes; none without any."""
    return [f"checkpoint.allow={to_json(list(allow)).decode()}"] if allow else []


def stored_choices(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return of `run.json`'s choices those that name no code: numbers and strings of the keys that a run chooses."""
    return {
        key: value
        for key, value in resolved.items()
        if any(key == root or key.startswith(f"{root}.") for root in _CHOSEN)
        and "class_path" not in key.split(".")
        and (value is None or isinstance(value, bool | int | float | str))
    }


def trial_params(config: RunConfig, params: Mapping[str, Any], *, trial: str) -> dict[str, Any]:
    """Return a trial's stored parameters.

    Raises:
        InputError: one is not a value of its key in `tune.space` or in PBT's mutations.
    """
    tune = config.tune
    mutations = tune.scheduler.args.mutations if tune and tune.scheduler.kind == "pbt" else {}
    for key, value in params.items():
        domains = [place[key] for place in (tune.space if tune else {}, mutations) if key in place]
        if not any(_may_have(domain, value) for domain in domains):
            reason = f"{value!r} is none of its values" if domains else "the run file does not draw that key"
            raise InputError(
                f"trials/{trial}/trial.json: its parameter {key} is not the run's ({reason}); delete that file: "
                "the trial is drawn again"
            )
    return dict(params)


def _may_have(domain: Any, value: Any) -> bool:
    """Return whether a primitive of the space, or a list of PBT's mutations, may give this value."""
    values = domain if isinstance(domain, list) else domain.args.get("categories", domain.args.get("values"))
    if isinstance(value, int | float) or value is None:
        return True
    if values is not None:
        return value in to_plain(values, "values")
    return not isinstance(domain, list) and domain.kind == "sample_from"
