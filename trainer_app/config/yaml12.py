"""Reading and writing YAML 1.2: `1e-3` is a number, `yes` a string, each key has a line, no tag makes an object."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from trainer_app.config.draft import Draft, Path

_TAG = "tag:yaml.org,2002:"
# Aliases can name each other: 10 lines then stand for a billion values.
MAX_VALUES = 100_000
MAX_TEXT = 1 << 20  # characters, what a ConfigMap holds
_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false"}
_CONTAINERS = (_TAG + "map", _TAG + "seq", _TAG + "omap")


class _UnreadableError(Exception):
    """The text has no tree; a problem was reported."""


def parse(text: str, draft: Draft, file: str) -> Any:
    """Return the plain values of one YAML document.

    Args:
        text: the document.
        draft: gets the lines of its keys, and problems: syntax, duplicate keys, tags, circular aliases.
        file: its name in messages.

    Returns:
        dict, list, str, int, float, bool and None; None if the text is empty or can't be read.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} characters are more than {MAX_TEXT}, which take minutes to read")
        node = yaml.compose(text)
        return None if node is None else _Reader(yaml, draft, file).value(node, ())
    except _UnreadableError:
        draft.broken = True
    except MarkedYAMLError as e:
        _syntax(e, draft, file)
    except (YAMLError, RecursionError, ValueError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e).splitlines()[0]
        draft.lines[(file,)] = ("", None)
        draft.report((file,), f"not YAML: {reason}")
    draft.broken = True
    return None


def _syntax(e: MarkedYAMLError, draft: Draft, file: str) -> None:
    mark = e.problem_mark or e.context_mark
    reason = " ".join(part for part in (e.problem, e.context) if part) or "can't be read"
    if e.context_mark and "flow" in (e.context or ""):
        reason += f", opened in line {e.context_mark.line + 1}"
    hint = ""
    if "\\t" in reason or "TAB" in reason.upper():
        hint = "indent with spaces"
    elif "single document" in reason:
        reason, hint = "several documents in one file", "one document a file; give several files to merge them"
    draft.lines[("YAML",)] = (file, mark.line + 1 if mark else None)
    column = f", column {mark.column + 1}" if mark else ""
    draft.report(("YAML",), f"syntax error{column}: {reason}", allowed=hint)
    del draft.lines[("YAML",)]


class _Reader:
    """Reader of the nodes of one document."""

    def __init__(self, yaml: YAML, draft: Draft, file: str) -> None:
        self.scalars, self.draft, self.file = yaml.constructor, draft, file
        self.open: set[int] = set()
        self.count = 0

    def value(self, node: Node, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or id(node) in self.open:
            what = "an alias inside what it names" if id(node) in self.open else f"more than {MAX_VALUES} values"
            self.report(node, path, what, allowed="write the values out")
            raise _UnreadableError
        self.draft.lines.setdefault(path, (self.file, node.start_mark.line + 1))
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if str(node.tag) not in _CONTAINERS:
            self.report(node, path, f"tag {_short_tag(node)} is not allowed", allowed="plain mappings and lists")
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, str(i))) for i, item in enumerate(node.value)]
            return self.mapping(node, path) if isinstance(node, MappingNode) else None
        finally:
            self.open.discard(id(node))

    def mapping(self, node: MappingNode, path: Path) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag) == _TAG + "merge":
                merged = {**self.merge(value_node, path), **merged}
                continue
            key = self.key(key_node, path)
            if key is None:
                continue
            below = (*path, str(key))
            if key in result:
                first = self.draft.lines.get(below, ("", None))[1]
                self.report(key_node, below, f"duplicate key, first in line {first}", allowed="keep one")
                continue
            if merged:
                self.draft.forget_lines(below)
            self.draft.lines[below] = (self.file, key_node.start_mark.line + 1)
            result[key] = self.value(value_node, below)
        return {**{k: v for k, v in merged.items() if k not in result}, **result}

    def merge(self, node: Node, path: Path) -> dict[Any, Any]:
        """`<<: *other` and `<<: [*one, *two]`, YAML 1.1's merge key, which LightningCLI's files often have."""
        result: dict[Any, Any] = {}
        for part in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(part, MappingNode):
                self.report(node, (*path, "<<"), "a merge key takes a mapping", allowed="<<: *name")
                return {}
            for key, value in self.value(part, path).items():
                result.setdefault(key, value)
        return result

    def key(self, node: Node, path: Path) -> str | int | None:
        if isinstance(node, ScalarNode):
            value = self.scalar(node, path)
            if isinstance(value, str) or (path and isinstance(value, int) and not isinstance(value, bool)):
                return value
        else:
            value = node.value and "a list or mapping"
        self.report(node, (*path, str(value)), "a key must be a string", allowed="quote it")
        return None

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        try:
            match kind:
                case "str" | "timestamp" | "value" | "merge":
                    return _join_surrogates(str(node.value))
                case "null":
                    return None
                case "bool":
                    return bool(self.scalars.construct_yaml_bool(node))
                case "int":
                    return int(self.scalars.construct_yaml_int(node))
                case "float":
                    return float(self.scalars.construct_yaml_float(node))
        except (ValueError, KeyError, IndexError):
            self.report(node, path, f"{node.value!r} is not {_KINDS[kind]}")
            return None
        self.report(node, path, f"tag {_short_tag(node)} is not allowed", allowed="plain values")
        return None

    def report(self, node: Node, path: Path, message: str, *, allowed: str = "") -> None:
        kept = self.draft.lines.get(path)
        self.draft.lines[path] = (self.file, node.start_mark.line + 1)
        self.draft.report(path or (self.file,), message, allowed=allowed)
        if kept:
            self.draft.lines[path] = kept


def _join_surrogates(text: str) -> str:
    """Return a text in which two escapes of JSON, as in "\\ud83d\\ude00", are the one character that they stand for."""
    if not any("\ud800" <= character <= "\udbff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _short_tag(node: Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


class _Representer(SafeRepresenter):
    """Writer of 1.0e-05 for 1e-05, which readers of YAML 1.1 would take for a string."""


def _float(representer: SafeRepresenter, value: float) -> ScalarNode:
    node = SafeRepresenter.represent_float(representer, value)
    if "e" in node.value and "." not in node.value:
        node.value = node.value.replace("e", ".0e", 1)
    return node


_Representer.add_representer(float, _float)


def to_yaml(tree: Any) -> str:
    """Return YAML that `parse` reads back to the same values."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = None  # lists and mappings of plain values on one line
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.ignore_aliases = lambda _: True
    out = StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
