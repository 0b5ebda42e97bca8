"""helm/trainer/README.md from values.yaml: `make manifests` writes it, and a test sees when it drifts.

    python k8s/values_readme.py > helm/trainer/README.md

The comment `# -- text` before a key documents it; lines that go on are indented by four. Every key has one, or is a
block whose keys have.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).parents[1] / "helm/trainer/values.yaml"
HEAD = """# Values of the trainer chart

`make manifests` writes this page from `values.yaml`. `values.schema.json` refuses every other key. A run needs an
image, a storage and a run file:

    helm install RUN helm/trainer -f my-values.yaml --set-file run.file=run.yaml

`helm/values/` has files for kind, GKE, EKS with Karpenter, and AKS. CI ran S3 (MinIO), and a claim with all pods on one
node. It did not run a ReadWriteMany claim, or Kueue.
"""
KEY = re.compile(r"^( *)([A-Za-z]+):")
TEXT = re.compile(r"^ *# (-- |   )(.*)")


def described(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(dotted key, its comment) in the file's order; the comment is empty where there is none."""
    words: list[str] = []
    parents: list[str] = []
    for line in lines:
        if comment := TEXT.match(line):
            words = [comment[2]] if comment[1] == "-- " else [*words, comment[2]] if words else []
        elif key := KEY.match(line):
            parents = [*parents[: len(key[1]) // 2], key[2]]
            yield ".".join(parents), " ".join(words)
            words = []
        else:
            words = []


def default(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def table(text: str) -> str:
    """Of all documented keys.

    Raises:
        ValueError: a key has no comment, or one inside a documented block has.
    """
    values, rows, documented = yaml.safe_load(text), [HEAD, "| value | default | meaning |", "|---|---|---|"], ""
    for key, words in described(text.splitlines()):
        value = default(values, key)
        if documented and key.startswith(f"{documented}."):
            if words:
                raise ValueError(f"{key} is documented, and so is {documented}")
            continue
        if not words:
            if not isinstance(value, dict) or not value:
                raise ValueError(f"{key} has no comment that begins with --")
            continue
        documented = key
        shown, words = json.dumps(value).replace("|", "\\|"), words.replace("|", "\\|")
        rows.append(f"| `{key}` | `{shown}` | {words} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(VALUES.read_text(encoding="utf-8")))
