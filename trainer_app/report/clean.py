"""Texts as a page may show them: without secrets, and without characters that move or turn what stands beside them."""

from __future__ import annotations

import re
from typing import Any, Final

from trainer_app.formatting import clean_lines
from trainer_app.redact import HIDDEN, is_secret_name, redact_text

LONGEST: Final = 20_000  # characters of one text
MARGIN: Final = 10_000  # characters beyond what stays that are searched for secrets: none is longer
# From the start of a word, so that the time grows with the text: `password = abc`, `"api_key": "abc"`, `--token abc`.
_ASSIGNMENT: Final = re.compile(r"""(?<![\w.-])(?:([\w.-]{2,80})["']?\s{0,3}[:=]\s{0,3}|--?([\w-]{2,80})\s{1,3})""")
_VALUE: Final = re.compile(r"""\"[^"\n]*"?|'[^'\n]*'?|[^\s"',;)}\]]+""")
# What is a secret by itself: headers, keys of AWS, GitHub, GitLab, Hugging Face, OpenAI and Slack, and private keys.
_KNOWN: Final = re.compile(
    r"(?<=Bearer )\S+|(?<=Basic )[\w+/=]{8,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bhf_\w{20,}|\bsk-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
)


def clean(value: Any) -> Any:
    """Return plain values with every text cleaned, the keys of mappings too."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def clean_text(text: str) -> str:
    """Return a text without secrets and control characters, its middle left out if it is very long."""
    return shorten(text, LONGEST)


def shorten(text: str, limit: int) -> str:
    """Return a text as `clean_text` does, with `limit` characters at most and a line about the rest."""
    half, length = limit // 2, len(text)
    if length <= 2 * (half + MARGIN):
        text = _redact(text)
        head, tail, length = text[:half], text[-half:], len(text)
    else:
        head, tail = _redact(text[: half + MARGIN])[:half], _redact(text[-half - MARGIN :])
        tail = tail[-half:] if len(tail) > half + MARGIN // 2 else ""  # else it is from where a secret may have begun
    if length <= limit:
        return text
    return f"{head}\n... {length - 2 * half} characters are left out ...\n{tail}"


def _redact(text: str) -> str:
    return _KNOWN.sub(HIDDEN, _hide_values(redact_text(clean_lines(text))))


def _hide_values(text: str) -> str:
    """Return `password=***` for `password=abc`."""
    parts, done = [], 0
    for match in _ASSIGNMENT.finditer(text):
        name = match[1] or match[2]
        if match.start() < done or not is_secret_name(name.rpartition(".")[2]):
            continue
        if value := _VALUE.match(text, match.end()):
            parts += [text[done : value.start()], HIDDEN]
            done = value.end()
    return "".join([*parts, text[done:]])
