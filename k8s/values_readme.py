"""Write helm/trainer/README.md from values.yaml; `make manifests` runs this, and a test fails if they differ.

    python k8s/values_readme.py > helm/trainer/README.md

The comment `# -- text` before a key documents it; further lines begin with `#` and four spaces. Every key has such a
comment, or is a block whose keys have one.
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


def read_comments(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, its comment, or "") in the file's order."""
    texts: list[str] = []
    parents: list[str] = []
    for line in lines:
        if comment := TEXT.match(line):
            texts = [comment[2]] if comment[1] == "-- " else [*texts, comment[2]] if texts else []
        elif key := KEY.match(line):
            parents = [*parents[: len(key[1]) // 2], key[2]]
            yield ".".join(parents), " ".join(texts)
            texts = []
        else:
            texts = []


def default_value(values: Any, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        values = values[part]
    return values


def render_table(text: str) -> str:
    """Return the README, with a row for each documented key.

    Raises:
        ValueError: a key has no comment, or one inside a documented block has.
    """
    values, rows, documented = yaml.safe_load(text), [HEAD, "| value | default | meaning |", "|---|---|---|"], ""
    for key, comment in read_comments(text.splitlines()):
        value = default_value(values, key)
        if documented and key.startswith(f"{documented}."):
            if comment:
                raise ValueError(f"{key} is documented, and so is {documented}")
            continue
        if not comment:
            if not isinstance(value, dict) or not value:
                raise ValueError(f"{key} has no comment that begins with --")
            continue
        documented = key
        default, comment = json.dumps(value).replace("|", "\\|"), comment.replace("|", "\\|")
        rows.append(f"| `{key}` | `{default}` | {comment} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_table(VALUES.read_text(encoding="utf-8")))
