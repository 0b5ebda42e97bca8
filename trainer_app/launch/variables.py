"""Environment variables of a run's pods: `--env`, and their names in a run's storage, which never holds a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from trainer_app.config import loads
from trainer_app.errors import InputError
from trainer_app.redact import has_credentials, is_secret_name

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REMEDY: Final = (
    "values of --env are readable in the manifests: put it into a Secret and name that in the values, "
    "head.env and poolDefaults.env: [{name: %s, valueFrom: {secretKeyRef: {name: SECRET, key: KEY}}}]"
)


def parse_variables(options: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return {name: value} of the options --env NAME[=VALUE].

    Args:
        environment: where the value of a NAME without one is taken from.

    Raises:
        InputError: a name is not allowed or looks like a secret, or has no value in `environment`.
    """
    variables = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not _NAME.fullmatch(name):
            raise InputError(f"--env {name!r}: a name has letters, digits and _, and no digit first; give NAME[=VALUE]")
        if is_secret_name(name):
            raise InputError(f"--env {name}: the name looks like a secret's; {_REMEDY % name}")
        if not equals and name not in environment:
            raise InputError(f"--env {name}: this variable is not set here; export it, or give --env {name}=VALUE")
        variables[name] = value if equals else environment[name]
        if re.search(r"[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", variables[name]):
            raise InputError(f"--env {name}: the value has control characters or is not UTF-8; YAML can't hold it")
        if has_credentials(variables[name]):
            raise InputError(f"--env {name}: the value is a URI with credentials; {_REMEDY % name}")
    return variables


def warn_of_secrets(run_file: str) -> list[str]:
    """Return a line for the values of a run file that look like secrets: no other place of a run holds one."""
    keys = ", ".join(_secret_keys(loads(run_file).model_dump()))
    text = (
        f"warning: {keys} in the run file: everyone who reads the manifests or the storage can read it; read secrets "
        "from the environment in your code, and name their Secret in head.env and poolDefaults.env"
    )
    return [text] if keys else []


def _secret_keys(value: Any, key: str = "", *, secret: bool = False) -> Iterator[str]:
    """Yield the dotted keys of texts that are secrets, by the name of a key or as a URI with credentials."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _secret_keys(below, f"{key}.{name}".removeprefix("."), secret=is_secret_name(name))
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from _secret_keys(below, f"{key}[{number}]", secret=secret)
    elif isinstance(value, str) and value and (secret or has_credentials(value)):
        yield key


def describe_variables(names: Iterable[str]) -> list[str]:
    """Return the line that lists the variables of --env; none without any."""
    listed = ", ".join(names)
    return [f"environment variables of the pods, from --env: {listed}"] if listed else []


def run_variables(values: Mapping[str, Any]) -> list[str]:
    """Return the names of `run.env` of a user's values."""
    return list((values.get("run") or {}).get("env") or {})


def check_given(names: Sequence[str], variables: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Check that every variable of a stored run has a value again.

    Args:
        names: those of --env and `run.env`, which the run was submitted with.
        variables: those of --env now.
        values: the stored values under the user's own; an entry of an `env` list that only has a name lost its value.

    Raises:
        InputError: the values of some are missing; each is named with where it was set.
    """
    known = {*variables, *run_variables(values)}
    missing = [f"--env {name}" for name in names if name not in known]
    missing += [f"{where}: {name}" for where, name in _without_value(values) if name not in known]
    if missing:
        raise InputError(
            "values of environment variables are not kept in the storage; give them again, with the values files they "
            f"were in (-f FILE) or --env NAME[=VALUE]: {'; '.join(missing)}"
        )


def _without_value(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Yield (where, name) of each entry of an `env` list that has neither `value` nor `valueFrom`."""
    for key, block in values.items():
        if key == "env" and isinstance(block, list):
            yield from ((f"{where}env", entry["name"]) for entry in block if set(entry) == {"name"})
        elif isinstance(block, Mapping):
            yield from _without_value(block, f"{where}{key}.")
