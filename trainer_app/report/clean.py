"""Texts as a page may show them: without secrets, and without characters that move or turn what stands beside them."""

from __future__ import annotations

import re
from typing import Any, Final

from trainer_app.formatting import clean_lines
from trainer_app.redact import HIDDEN, is_secret_name, redact_text

LONGEST: Final = 20_000  # characters of one text
_ASSIGNMENT: Final = re.compile(r"""([\w.-]{2,80})["']?\s{0,3}[:=]\s{0,3}""")
_VALUE: Final = re.compile(r"""\"[^"\n]*"?|'[^'\n]*'?|[^\s"',;)}\]]+""")


def clean(value: Any) -> Any:
    """Return plain values with every text cleaned, the keys of mappings too."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def clean_text(text: str) -> str:
    """Return a text without secrets and control characters, its middle left out if it is very long."""
    text = _hide_values(redact_text(clean_lines(text)))
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters are left out ...\n{text[-half:]}"


def _hide_values(text: str) -> str:
    """Return `password=***` for `password=abc`."""
    parts, done = [], 0
    for match in _ASSIGNMENT.finditer(text):
        value = _VALUE.match(text, match.end())
        if value and match.start() >= done and is_secret_name(match[1].rpartition(".")[2]):
            parts += [text[done : value.start()], HIDDEN]
            done = value.end()
    return "".join([*parts, text[done:]])
