"""What the schema of the chart's values refuses, in sentences that name the key and what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from trainer_app.redact import redact_text

# `- at '/pools/cpu': reason` of Helm 3.18 and newer, `- pools.cpu: Reason` of older ones.
_LINE: Final = re.compile(r"- (?:at '(?P<pointer>[^']*)'|(?P<dotted>[^\s:]+)): (?P<reason>.*)")
_TYPES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_UNQUOTED: Final = str.maketrans("", "", "'\"")
_Sentence = Callable[[str, re.Match[str], dict[str, Any]], str]


def explain(text: str, schema_file: Path) -> str:
    """Return Helm's report of refused values in sentences; any other text as it is.

    Args:
        text: one line for each refusal, as Helm prints them.
        schema_file: the chart's values.schema.json, whose `description`s say what is allowed.
    """
    matches = (_LINE.match(line.strip()) for line in text.splitlines())
    # The head of several refusals below one key says nothing itself.
    lines = [match for match in matches if match and match["reason"] != "validation failed"]
    if "the schema" not in text or not lines:
        return text
    schema = json.loads(schema_file.read_text())
    return "values: " + "; ".join(dict.fromkeys(_sentence(line, schema) for line in lines))


def _sentence(line: re.Match[str], schema: dict[str, Any]) -> str:
    if line["pointer"] is None:
        parts = [] if line["dotted"] == "(root)" else line["dotted"].split(".")
    else:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in line["pointer"].split("/")[1:]]
    key = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts).removeprefix(".")
    for pattern, build in _REASONS.items():
        if match := re.match(pattern, line["reason"], re.IGNORECASE):
            return build(key, match, _schema_at(parts, schema))
    return f"{key or 'the values'}: {line['reason']}"


def _schema_at(parts: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the schema that a key has, with the descriptions that lead to it; {} if there is none."""
    node: Any = schema
    for part in [*parts, None]:
        if "$ref" in node:
            node = {**schema["definitions"][node["$ref"].rpartition("/")[2]], **node}
        if part is not None:
            patterns = [below for name, below in node.get("patternProperties", {}).items() if re.match(name, part)]
            exact, others = node.get("properties", {}).get(part), (node.get("items"), node.get("additionalProperties"))
            node = next((below for below in (exact, *patterns, *others) if isinstance(below, dict)), {})
    return node


def _type_name(names: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in re.split(r" or |, ", names))


def _wrong_type(key: str, match: re.Match[str], node: dict[str, Any]) -> str:
    quote = "; quote it, or use --set-string" if "string" in match[2] and match[1] in ("number", "boolean") else ""
    return f"{key or 'values'} must be {_type_name(match[2])}, not {_type_name(match[1])}{quote}"


def _unknown_key(key: str, match: re.Match[str], node: dict[str, Any]) -> str:
    sentences = []
    for name in re.findall(r"'([^']*)'", match[1]) or [match[1]]:
        similar = get_close_matches(name, node.get("properties", {}), n=1)
        allowed = node.get("description") or (f"did you mean {similar[0]}?" if similar else "")
        allowed = allowed or f"allowed: {', '.join(node.get('properties', {}))}"
        sentences.append(f"{f'{key}.' if key else ''}{name} is not allowed ({allowed})")
    return "; ".join(sentences)


def _wrong_text(key: str, match: re.Match[str], node: dict[str, Any]) -> str:
    given = f" is {redact_text(match[1])!r}; it" if match[1] else ""
    return f"{key}{given} must be {node.get('description', 'of another form')}"


def _missing(key: str, match: re.Match[str], node: dict[str, Any]) -> str:
    names = re.findall(r"'([^']*)'", match[1]) or [match[1]]
    return f"{', '.join(f'{key}.{name}'.removeprefix('.') for name in names)} is missing"


def _wrong_size(key: str, match: re.Match[str], node: dict[str, Any]) -> str:
    if match[3] == "0":
        return f"{key} must not be empty"
    nouns = {"items": "items", "properties": "keys", "length": "characters"}
    bound = "at most" if match[1] == "max" else "at least"
    return f"{key} has {match[3]} {nouns[match[2].lower()]}, and must have {bound} {match[4]}"


_REASONS: Final[dict[str, _Sentence]] = {
    r"got (\w+), want (.+)": _wrong_type,
    r"invalid type\. expected: (?P<want>.+), given: (?P<got>\w+)": lambda key, match, _: (
        f"{key or 'values'} must be {_type_name(match['want'])}, not {_type_name(match['got'])}"
    ),
    r"additional properties (.+) not allowed": _unknown_key,
    r"additional property (\S+) is not allowed": _unknown_key,
    r"(?:'(.*)' )?does not match pattern": _wrong_text,
    r"missing propert(?:y|ies) (.+)": _missing,
    r"(\S+) is required": _missing,
    r"(?:\S+ must be|value must be) one of (?:the following: )?(.+)": lambda key, match, _: (
        key + " must be one of " + match[1].replace("''", "empty").translate(_UNQUOTED)
    ),
    r"(min|max)imum: got (\S+), want (\S+)": lambda key, match, _: (
        f"{key} is {match[2]}, and must be at {'least' if match[1].lower() == 'min' else 'most'} {match[3]}"
    ),
    r"(min|max)(items|properties|length): got (\d+), want (\d+)": _wrong_size,
}
