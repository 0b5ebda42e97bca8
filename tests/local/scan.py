"""Looks for a secret where it must not be: files, objects, and the arguments of processes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def spellings(secret: str) -> list[bytes]:
    """The secret as it is, and as base64 has it wherever it begins: what can be read back without a key."""
    found = [secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()]
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode())
        found.append(encoded[4 if offset else 0 : -4])  # less the characters that depend on the neighbours
    return found


def holds(data: bytes, secret: str) -> bool:
    return any(spelling in data for spelling in spellings(secret))


def files(folders: Iterable[Path], secret: str) -> list[str]:
    """Files below the folders that hold the secret, or whose path does. Links, sockets and pipes are not followed."""
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if holds(str(path).encode(), secret) or (not path.is_symlink() and holds(content(path), secret))
    ]


def content(path: Path) -> bytes:
    """Nothing of what is no file, or no longer: a server may remove one at any moment."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""


def objects(client: Any, bucket: str, secret: str) -> tuple[int, list[str]]:
    """(how many objects the bucket has, the keys of those that hold the secret)."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    found = [
        key
        for key in keys
        if holds(key.encode(), secret) or holds(client.get_object(Bucket=bucket, Key=key)["Body"].read(), secret)
    ]
    return len(keys), found


class Arguments:
    """Looks at the arguments of all processes 20 times a second, while it is entered."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.found: list[str] = []
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for line in arguments():
                if line not in self.seen and holds(line, self.secret):
                    self.found.append(line.replace(b"\0", b" ").decode(errors="replace"))
                self.seen.add(line)


def arguments() -> Iterator[bytes]:
    """What /proc has as the command line of each process, titles that a process gave itself included."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "cmdline").read_bytes()
            except OSError:  # ended meanwhile
                continue
