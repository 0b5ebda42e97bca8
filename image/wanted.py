"""Print the part of pyproject.toml that the image's dependencies come from: a linter's rule must not rebuild 6 GB."""

import json
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
kept = {key: project[key] for key in ("name", "version", "requires-python", "dependencies")}
print("[project]", *(f"{key} = {json.dumps(value)}" for key, value in kept.items()), sep="\n")
print("[project.optional-dependencies]", f"train = {json.dumps(project['optional-dependencies']['train'])}", sep="\n")
