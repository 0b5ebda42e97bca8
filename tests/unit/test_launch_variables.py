"""Environment variables for pods: `--env`, and what a run's storage keeps of them."""

import re
from typing import Any

import pytest

from trainer_app.errors import InputError
from trainer_app.launch.variables import check_given, describe_variables, parse_variables, warn_of_secrets
from trainer_app.redact import remove_secrets

pytestmark = pytest.mark.unit


def test_a_name_alone_has_the_value_of_the_shell() -> None:
    given = parse_variables(["A", "B=x=y", "C=", "A=2"], {"A": "1", "D": "4"})
    assert given == {"A": "2", "B": "x=y", "C": ""}
    assert parse_variables(["A=https://h:80/org/code@v1"], {}) == {"A": "https://h:80/org/code@v1"}
    assert parse_variables(["A=\ta\n\U0001f600 é\xa0"], {}) == {"A": "\ta\n\U0001f600 é\xa0"}
    assert parse_variables(["A"], {"A": "1"}) == {"A": "1"}
    assert describe_variables(given) == ["environment variables of the pods, from --env: A, B, C"]
    assert describe_variables({}) == []


@pytest.mark.parametrize(
    "option, words",
    [
        ("A", "--env A: this variable is not set here; export it, or give --env A=VALUE"),
        ("1A=x", "--env '1A': a name has letters"),
        ("=x", "--env '': a name has letters"),
        ("A-B=x", "--env 'A-B': a name has letters"),
        ("HF_TOKEN", "--env HF_TOKEN: the name looks like a secret's; .*secretKeyRef"),
        ("WANDB_API_KEY=CANARY", "WANDB_API_KEY: the name looks like a secret's; .*name: WANDB_API_KEY, valueFrom"),
        ("URL=postgres://u:CAN/ARY@host/db", "--env URL: the value is a URI with credentials"),
        ("A=x\x7f", "--env A: the value has control characters or is not UTF-8"),
        ("A=x\udcff", "--env A: the value has control characters or is not UTF-8"),
        (
            "DATABASE_URL=postgres://u:CANARY@host/db",
            "--env DATABASE_URL: the value is a URI with credentials; .*Secret",
        ),
    ],
)
def test_what_is_refused_says_what_to_do(option: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        parse_variables([option], {"HF_TOKEN": "CANARY"})
    assert "CANARY" not in str(refused.value) and "\n" not in str(refused.value)


STORED = {
    "head": {"env": [{"name": "A"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": ""}]},
    "pools": {"cpu": {"env": [{"name": "D"}], "replicas": 2}},
    "poolDefaults": {"env": [{"name": "E"}]},
}


def test_no_value_of_a_variable_is_stored() -> None:
    values = {
        "head": {"env": [{"name": "A", "value": "CANARY"}, {"name": "B", "valueFrom": {}}, {"name": "C", "value": ""}]},
        "pools": {"cpu": {"env": [{"name": "D", "value": "CANARY"}], "replicas": 2}},
        "poolDefaults": {"env": [{"name": "E", "value": "CANARY"}]},
    }
    assert remove_secrets(values) == STORED
    assert remove_secrets({"run": {"env": {"F": "CANARY"}, "task": "tune"}}) == {"run": {"env": {}, "task": "tune"}}
    assert remove_secrets({"env": None}) == {"env": {}}


@pytest.mark.parametrize(
    "given, values, missing",
    [
        ({}, STORED, "--env F; head.env: A; pools.cpu.env: D; poolDefaults.env: E"),
        ({"F": "1", "A": "1"}, STORED, "pools.cpu.env: D; poolDefaults.env: E"),
        ({"F": "1", "A": "1", "D": "1", "E": ""}, STORED, None),
        ({}, {"run": {"env": {"F": "1"}}, "head": {"env": [{"name": "A", "value": "x"}]}}, None),
        ({}, {"run": {"env": {}}, "head": {"env": None}}, "--env F"),
    ],
)
def test_resume_asks_for_them_again(given: dict[str, str], values: dict[str, Any], missing: str | None) -> None:
    if missing is None:
        check_given(["F"], given, values)
        return
    with pytest.raises(InputError, match=re.escape(f"--env NAME[=VALUE]: {missing}") + "$"):
        check_given(["F"], given, values)


def test_secrets_in_a_run_file_are_warned_of_by_their_keys() -> None:
    """They would be readable in the ConfigMap and in the storage, the only place of a run that holds any."""
    plain = "model: {class_path: a.B, init_args: {tokenizer: t, num_tokens: 7, token: true, password: null}}\n"
    assert warn_of_secrets(plain) == []
    logger = "{class_path: x.W, init_args: {api_key: CANARY, url: 'https://h/x@1'}}"
    data = "{class_path: a.D, init_args: {db: 'postgres://u:CANARY@h/d'}}"
    (line,) = warn_of_secrets(f"{plain}data: {data}\ntrainer: {{logger: [{logger}]}}\n")
    assert line.startswith("warning: data.init_args.db, trainer.logger[0].init_args.api_key in the run file: ")
    assert "CANARY" not in line and "secret" in line
