"""Print the part of pyproject.toml that the image's dependencies come from: a linter's rule must not rebuild 6 GB.

python image/wanted.py train              # of [train]
python image/wanted.py train mlflow wandb # and of more extras
"""

import json
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
kept = {key: project[key] for key in ("name", "version", "requires-python", "dependencies")}
print("[project]", *(f"{key} = {json.dumps(value)}" for key, value in kept.items()), sep="\n")
extras, names = project["optional-dependencies"], dict.fromkeys(sys.argv[1:])
if unknown := sorted(set(names) - set(extras)):
    sys.exit(f"error: no such extra: {', '.join(unknown)}; there are {', '.join(extras)}")
print("[project.optional-dependencies]", *(f"{name} = {json.dumps(extras[name])}" for name in names), sep="\n")
