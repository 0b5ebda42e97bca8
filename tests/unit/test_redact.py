"""What looks like a secret: one pattern, in messages, URIs, recorded values and the chart."""

from typing import Any

import pytest

from tests.unit.tree import ROOT
from trainer_app.config import loads
from trainer_app.errors import ConfigError, InputError
from trainer_app.redact import SECRET_NAME, is_secret_name, redact_text, remove_secrets
from trainer_app.storage import open_store
from trainer_app.storage.s3_errors import clean_message

pytestmark = pytest.mark.unit

SECRETS = (
    "password",
    "db_passwd",
    "passphrase",
    "credentials",
    "token",
    "HF_TOKEN",
    "hfToken",
    "authToken",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "sig",
    "client_secret",
    "clientSecret",
    "api_key",
    "WANDB_API_KEY",
    "accessKeyId",
    "secretAccessKey",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
PLAIN = (
    "tokenizer",
    "num_tokens",
    "tokenName",
    "key",
    "existingSecret",
    "tlsSecret",
    "pullSecrets",
    "secretName",
    "secretKeyRef",
    "region",
    "endpoint_override",
    "design",
    "TOKENIZERS_PARALLELISM",
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_one_everywhere(name: str) -> None:
    assert is_secret_name(name)
    values = {"a": {name: "CANARY"}, "env": [{"name": name, "value": "CANARY"}]}
    assert remove_secrets(values) == {"a": {}, "env": [{"name": name}]}
    with pytest.raises(ConfigError, match=r"'\*\*\*'") as shown:
        loads(f"model: {{class_path: a.B}}\nscaling: {{num_workers: {{{name}: CANARY}}}}\n")
    with pytest.raises(ConfigError, match="unknown key") as unknown:
        loads(f"model: {{class_path: a.B}}\nstorage: {{{name}: CANARY}}\n")
    with pytest.raises(InputError, match="credentials don't belong in a URI") as refused:
        open_store(f"s3://bucket/x?{name}=CANARY")
    with pytest.raises(ConfigError, match="credentials don't belong in a URI") as invalid:
        loads(f"model: {{class_path: a.B}}\nstorage: {{uri: 's3://bucket/x?{name}=CANARY'}}\n")
    assert "CANARY" not in f"{shown.value} {unknown.value} {refused.value} {invalid.value}"


@pytest.mark.parametrize("name", PLAIN)
def test_what_names_a_secret_is_none(name: str) -> None:
    assert not is_secret_name(name)
    values = {"a": {name: "x"}, "b": [{"name": name, "value": "x"}]}
    assert remove_secrets(values) == values


def test_the_charts_pattern_is_the_same() -> None:
    chart = (ROOT / "helm/trainer/templates/_checks_groups.tpl").read_text()
    assert chart.partition('define "trainer.secretName" -}}\n')[2].partition("\n")[0] == SECRET_NAME.pattern


@pytest.mark.parametrize(
    "values, kept",
    [
        ({"storage": {"keys": {"accessKeyId": "a", "secretAccessKey": "b"}}}, {"storage": {"keys": {}}}),
        ({"storage": {"existingSecret": "s3"}}, {"storage": {"existingSecret": "s3"}}),
        ({"head": {"annotations": {"a": "postgres://u:p@host/db"}}}, {"head": {"annotations": {}}}),
        ({"annotations": {"a": "https://h:80/x@1"}}, {"annotations": {"a": "https://h:80/x@1"}}),
        ({"image": {"pullSecrets": ["one"]}}, {"image": {"pullSecrets": ["one"]}}),
        (
            {"head": {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}, {"name": "A", "value": "1"}]}},
            {"head": {"env": [{"name": "AWS_SECRET_ACCESS_KEY"}, {"name": "A"}]}},
        ),
        ({"a": {"password": "x", "token": "y", "tokenName": "z"}}, {"a": {"tokenName": "z"}}),
        ({"env": [{"name": "HF_TOKEN", "valueFrom": {}}]}, {"env": [{"name": "HF_TOKEN", "valueFrom": {}}]}),
        ({"volumes": [{"secret": {"secretName": "s"}}]}, {"volumes": [{"secret": {"secretName": "s"}}]}),
    ],
)
def test_values_are_kept_without_secrets(values: dict[str, Any], kept: dict[str, Any]) -> None:
    assert remove_secrets(values) == kept


@pytest.mark.parametrize(
    "text, shown",
    [
        ("s3://AK:SECRET/x+y@bucket/x", "s3://***@bucket/x"),
        ("s3://AK:SECRET/x", "s3://***/x"),
        ("at https://user:SECRET@host:1/x failed", "at https://***@host:1/x failed"),
        ("s3://b/x?endpoint_override=u:SECRET@h&region=r", "s3://b/x?endpoint_override=***&region=***"),
        ("https://h/x?X-Amz-Signature=SECRET", "https://h/x?X-Amz-Signature=***"),
    ],
)
def test_credentials_in_a_text_are_hidden(text: str, shown: str) -> None:
    assert redact_text(text) == clean_message(text) == shown
