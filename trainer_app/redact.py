"""What looks like a secret, and values, messages and URIs without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# The one pattern; the chart has its text in trainer.secretName. Not among them: tokenizer, num_tokens; existingSecret,
# tlsSecret, secretName and secretKeyRef, which name a Kubernetes Secret and hold none.
SECRET_NAME: Final = re.compile(
    r"(?i)(pass(word|wd|phrase)|credential|signature|(access|api|private|secret)[_-]?(access[_-]?)?key)s?"
    r"([_-]?(id|value|\d+))?$|((^|[_-]|auth|client|session)(token|secret|sig)|(?-i:[a-z]Token))([_-]?(value|\d+))?$"
)
_USER_INFO: Final = re.compile(r"(://)[^\s?'\"]*@")
_PASSWORD: Final = re.compile(r"://[^\s/?#'\":]*:[^\s/?#'\"]*@")
# https://host/path@version has none, nor has https://host:80/path@version.
_CREDENTIALS: Final = re.compile(r"://([^\s/?#'\"]*@|[^\s/?#@:'\"]*:(?!\d+(/|$))[^\s?'\"]*@)")
_KEY_PAIR: Final = re.compile(r"(s3a?://)[^/\s?]*:[^/\s?]*", re.IGNORECASE)  # access key and secret without a host
_OPTION: Final = re.compile(r"([?&][^=&\s]+=)[^&\s]*")
_LONG: Final = 120  # characters of a value in a message
_ITEMS: Final = 8  # of a mapping or list in a message
HIDDEN: Final = "***"


def is_secret_name(name: object) -> bool:
    """Whether what has this name (a key, an option, an environment variable) is a secret."""
    return bool(SECRET_NAME.search(str(name)))


def redact_text(text: str) -> str:
    """Hide credentials and all options' values in the URIs of a text."""
    return _OPTION.sub(rf"\1{HIDDEN}", _KEY_PAIR.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1{HIDDEN}@", text)))


def has_credentials(text: str) -> bool:
    """Whether the text has a URI with a user's name, and so with a password."""
    return bool(_CREDENTIALS.search(text))


def redact_value(value: Any, *, secret: bool = False) -> Any:
    """Return the value as a message may show it: short, and without secrets."""
    if secret:
        return HIDDEN
    if isinstance(value, str):
        text = redact_text(value)
        return text if len(text) <= _LONG else text[:_LONG] + "..."
    if isinstance(value, Mapping):
        return {key: redact_value(item, secret=is_secret_name(key)) for key, item in list(value.items())[:_ITEMS]}
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in value[:_ITEMS]]
    return value


def remove_secrets(values: Any) -> Any:
    """Return a copy without secret entries and without values of environment variables, whose names are kept.

    A URI with a password is a secret entry, whatever its name. A mapping or a boolean under a secret's name is kept: a
    volume's `secret` and `serviceAccountToken` say where one is.
    """
    if isinstance(values, dict):
        kept = {key: value for key, value in values.items() if not _is_secret(key, value)}
        return {key: _remove_values(value) if key == "env" else remove_secrets(value) for key, value in kept.items()}
    if isinstance(values, list):
        return [remove_secrets(item) for item in values]
    return values


def _is_secret(name: object, value: Any) -> bool:
    if isinstance(value, str) and _PASSWORD.search(value):
        return True
    return is_secret_name(name) and not isinstance(value, dict | bool)


def _remove_values(env: Any) -> Any:
    """Return an `env` block without values, but for empty ones: of a list the names, of a mapping nothing."""
    entries = [item for item in env if isinstance(item, dict)] if isinstance(env, list) else []
    kept = [{key: item[key] for key in item if key != "value" or not item[key]} for item in entries]
    return kept if isinstance(env, list) else {}
