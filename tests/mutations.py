"""Damage to the objects of a run's folder: seeded, of every kind of object and every kind of damage."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEEP = 10_000
HUGE: tuple[Any, ...] = (10**400, -(2**70), 1e308, -1, 0)
WRONG: tuple[Any, ...] = (None, [], {}, "x", "\x1b[31m\n", True, 3, 1.5, [1], {"a": 1}, "\ud800", "../x", "inf", "nan")


def kind_of(key: str) -> str:
    """Return what kind of object a key of a run's folder is: its name, and where it is, without numbers."""
    parts = key.split("/")
    if parts[0] == "trials" and len(parts) > 2:
        return f"trials/{kind_of('/'.join(parts[2:]))}"
    return f"{parts[0]}/{Path(key).suffix}" if parts[0] in ("metrics", "logs", "artifacts", "code") else parts[-1]


@dataclass(frozen=True)
class Mutation:
    """What was done to an object of a run."""

    key: str
    damage: str

    def __str__(self) -> str:
        return f"{self.key}: {self.damage}"


class Mutator:
    """Damages one object of a run in a folder at a time.

    Args:
        run: the run's folder. It is damaged: give a copy.
        rng: decides what is damaged, and how.
        outside: a folder beside the storage, where links lead to.
    """

    def __init__(self, run: Path, rng: random.Random, outside: Path) -> None:
        self.run, self.rng, self.outside = run, rng, outside
        self.by_kind: dict[str, list[str]] = {}
        for path in sorted(path for path in run.rglob("*") if path.is_file()):
            key = path.relative_to(run).as_posix()
            self.by_kind.setdefault(kind_of(key), []).append(key)

    def damage(self, number: int) -> Mutation:
        """Damage an object; `number` walks through the kinds of objects, the damage is drawn."""
        kinds = sorted(self.by_kind)
        kind = kinds[number % len(kinds)]
        key = self.rng.choice(self.by_kind[kind])
        name = self.rng.choice(sorted(DAMAGES))
        DAMAGES[name](self, self.run / key)
        return Mutation(key, name)

    def replace(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def cut(self, path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: self.rng.randrange(max(1, len(data)))])

    def flip(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        for _ in range(self.rng.choice((1, 1, 8))):
            if data:
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        path.write_bytes(data)

    def insert(self, path: Path, piece: bytes) -> None:
        data = path.read_bytes()
        at = self.rng.randrange(len(data) + 1)
        path.write_bytes(data[:at] + piece + data[at:])

    def set_value(self, path: Path, values: tuple[Any, ...]) -> None:
        """Put another value at a key of the document, or of one of its lines; of no JSON a line of it is added."""
        lines = path.read_bytes().split(b"\n")
        number = self.rng.randrange(len([line for line in lines if line]) or 1)
        try:
            document = json.loads(lines[number])
        except ValueError:
            self.insert(path, json.dumps(self.rng.choice(values)).encode() + b"\n")
            return
        holder, key = self.rng.choice(_places(document) or [({"": document}, "")])
        holder[key] = self.rng.choice(values)
        lines[number] = json.dumps(document).encode()
        path.write_bytes(b"\n".join(lines))

    def swap(self, path: Path) -> None:
        """Exchange the object with another of its kind, or of its suffix in another run of the storage."""
        key = path.relative_to(self.run).as_posix()
        beside = [self.run / other for other in self.by_kind[kind_of(key)] if other != key]
        others = beside or [p for p in sorted(self.run.parent.rglob(path.name)) if p.is_file() and p != path]
        if not others:
            path.unlink()
            return
        other = self.rng.choice(others)
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        if other.is_relative_to(self.run):
            other.write_bytes(mine)

    def folder(self, path: Path) -> None:
        path.unlink()
        path.mkdir()
        if self.rng.random() < 0.5:
            (path / "inner.json").write_bytes(b"{}")

    def link(self, path: Path) -> None:
        """Put a link in the object's place: to nothing, to itself, to a file or folder out of the run."""
        path.unlink()
        target = self.rng.choice((self.outside / "secret", self.outside, self.outside / "nothing", path))
        path.symlink_to(target)

    def link_above(self, path: Path) -> None:
        """Put a link to a folder out of the run in the place of the object's folder, unless that is the run."""
        if path.parent == self.run:
            self.link(path)
            return
        shutil.rmtree(path.parent)
        path.parent.symlink_to(self.outside)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return (mapping or list, key) of each value in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place for key, value in items for place in ((document, key), *_places(value))]


DAMAGES: dict[str, Callable[[Mutator, Path], None]] = {
    "emptied": lambda m, p: m.replace(p, b""),
    "cut": Mutator.cut,
    "bits flipped": Mutator.flip,
    "[]": lambda m, p: m.replace(p, b"[]"),
    "null": lambda m, p: m.replace(p, b"null"),
    "a number": lambda m, p: m.replace(p, m.rng.choice((b"7", b"1e999", b"-0", b"NaN", b"9" * 5000))),
    "a string": lambda m, p: m.replace(p, b'"text"'),
    "{}": lambda m, p: m.replace(p, b"{}"),
    "deep list": lambda m, p: m.replace(p, b"[" * DEEP + b"]" * DEEP),
    "deep mapping": lambda m, p: m.replace(p, b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "deep value": lambda m, p: m.set_value(p, (_nested(900),)),
    "huge number": lambda m, p: m.set_value(p, HUGE),
    "wrong type": lambda m, p: m.set_value(p, WRONG),
    "NUL bytes": lambda m, p: m.insert(p, b"\x00\x00"),
    "no UTF-8": lambda m, p: m.insert(p, b"\xff\xfe"),
    "zeros": lambda m, p: m.replace(p, b"\x00" * p.stat().st_size),
    "deleted": lambda m, p: p.unlink(),
    "swapped": Mutator.swap,
    "a folder": Mutator.folder,
    "a link": Mutator.link,
    "a link above": Mutator.link_above,
}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
