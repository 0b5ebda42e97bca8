"""Change the CRDs in KubeRay's manifests so that they keep the metadata of pod templates.

    python k8s/crds.py kuberay-operator.yaml | kubectl apply --server-side -f -

KubeRay's own CRDs are generated with `generateEmbeddedObjectMeta=true`. Without it, the schema of a template's
metadata is an object without properties, and the API server drops the labels and annotations of the pods. Then a
NetworkPolicy that selects the submitter by its labels selects nothing. Such a schema is changed to preserve unknown
fields; one with properties stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

KEEP = "x-kubernetes-preserve-unknown-fields: true"


def keep_metadata(text: str) -> tuple[str, int]:
    """Return the manifests, and how many schemas were changed.

    A template's metadata is followed by its spec, as is the custom resource's own; that one is directly under
    openAPIV3Schema and must stay, since the API server knows it.
    """
    lines, positions = text.splitlines(), []
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
            positions.append(number + 1)
    for number in reversed(positions):
        indent = len(lines[number]) - len(lines[number].lstrip())
        lines.insert(number, " " * indent + KEEP)
    return "\n".join(lines) + "\n", len(positions)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("error: give the file with KubeRay's manifests")
    manifests, changed = keep_metadata(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(manifests)
    if changed:
        print(f"changed {changed} schemas of pod templates, which dropped labels, to keep them", file=sys.stderr)
