"""KubeRay's manifest as it came, with the metadata of pod templates kept.

    python k8s/crds.py kuberay-operator.yaml | kubectl apply --server-side -f -

KubeRay's own CRDs are made with `generateEmbeddedObjectMeta=true`. Built without it, their schema of a template's
metadata is an object without properties, and the API server drops what is in it: labels and annotations of the pods.
Then a NetworkPolicy that selects the submitter by its labels selects nothing. Such a schema is told here to keep what
it doesn't know; one with properties stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

KEEP = "x-kubernetes-preserve-unknown-fields: true"


def kept(text: str) -> tuple[str, int]:
    """The manifest, and how many schemas were changed.

    A template's metadata is followed by its spec, as the CRD's own is; that one stands right under openAPIV3Schema and
    must stay, since the API server knows it.
    """
    lines, found = text.splitlines(), []
    own = 0
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() == "openAPIV3Schema:":
            own = indent + 4
        following = lines[number + 1 : number + 3]
        if (
            line.strip() == "metadata:"
            and indent > own > 0
            and following == [f"{' ' * (indent + 2)}type: object", f"{' ' * indent}spec:"]
        ):
            found.append(number + 1)
    for number in reversed(found):
        indent = len(lines[number]) - len(lines[number].lstrip())
        lines.insert(number, " " * indent + KEEP)
    return "\n".join(lines) + "\n", len(found)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("error: give the file with KubeRay's objects")
    manifest, changed = kept(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(manifest)
    if changed:
        print(f"{changed} schemas of pod templates dropped labels; they keep them now", file=sys.stderr)
