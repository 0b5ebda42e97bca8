"""What helm renders, as objects."""

from __future__ import annotations

import math
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from trainer_app.launch.kube import Object

RAY_KINDS: Final = ("RayJob", "RayCronJob", "RayCluster")


class _GoConstructor(SafeConstructor):
    """Makes of Helm's YAML what Helm meant: it leaves strings unquoted that Go takes for no number, such as 1e400."""

    def construct_yaml_int(self, node: Any) -> Any:
        number = super().construct_yaml_int(node)
        return number if -(2**63) <= number < 2**64 else node.value

    def construct_yaml_float(self, node: Any) -> Any:
        number = super().construct_yaml_float(node)
        return number if math.isfinite(number) else node.value


for _tag, _construct in (
    ("int", _GoConstructor.construct_yaml_int),
    ("float", _GoConstructor.construct_yaml_float),
    ("merge", _GoConstructor.construct_yaml_str),  # "<<" and "=" as values
    ("value", _GoConstructor.construct_yaml_str),
):
    _GoConstructor.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def load_objects(text: str) -> list[Object]:
    """Return the objects of rendered YAML in the order of creation: the RayJob last, as the operator acts on it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _GoConstructor
    objects = [obj for obj in yaml.load_all(text) if obj]
    return sorted(objects, key=lambda obj: obj["kind"] in RAY_KINDS)
