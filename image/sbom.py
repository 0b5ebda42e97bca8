"""Print a CycloneDX bill of materials: of a lock's packages, or of what this environment has installed.

    python image/sbom.py image/requirements.txt       # the lock, with its hashes
    docker run --rm IMAGE python /opt/sbom.py         # the image: Python and Debian packages

`make sbom` writes both.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)([^\n]*(?:\n +[^\n]*)*)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
DPKG = Path("/var/lib/dpkg/status")


def make_component(kind: str, name: str, version: str, hashes: Iterable[str] = ()) -> dict[str, Any]:
    """Return a library by its package URL, with the SHA-256 of the files that it may be installed from."""
    url = f"pkg:{kind}/{name}@{version}"
    component: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}
    if content := [{"alg": "SHA-256", "content": one} for one in hashes]:
        component["hashes"] = content
    return component


def read_lock(text: str) -> list[dict[str, Any]]:
    """Return the packages that a lock names; those of other platforms too."""
    return [
        make_component("pypi", normalise(name), version, HASH.findall(rest))
        for name, version, rest in PIN.findall(text)
    ]


def read_environment(dpkg: Path = DPKG) -> list[dict[str, Any]]:
    """Return this environment's Python distributions, the script in our own, and Debian's packages if there are any."""
    installed = sorted({(normalise(one.metadata["Name"]), one.version) for one in distributions()})
    components = [make_component("pypi", name, version) for name, version in installed]
    components += [make_component("npm", *one) for one in find_scripts()]
    for block in dpkg.read_text(errors="replace").split("\n\n") if dpkg.exists() else ():
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            components.append(make_component("deb/debian", fields["Package"], fields["Version"]))
    return components


def find_scripts() -> list[tuple[str, str]]:
    """Return name and version of the npm package whose script our wheel carries, if it is installed."""
    app = find_spec("trainer_app")
    folders = app.submodule_search_locations if app and app.submodule_search_locations else ()
    files = [file for folder in folders for file in Path(folder).glob("report/vendor/package.json")]
    return [(about["name"], about["version"]) for about in (json.loads(file.read_text()) for file in files)]


def normalise(name: str) -> str:
    """Return a distribution's name as package URLs and locks have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_bom(components: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the document; the same components are the same bytes."""
    unique = {component["bom-ref"]: component for component in components}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "trainer", "bom-ref": "trainer"}},
        "components": [unique[key] for key in sorted(unique)],
    }


if __name__ == "__main__":
    given = read_lock(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else read_environment()
    print(json.dumps(make_bom(given), indent=1))
