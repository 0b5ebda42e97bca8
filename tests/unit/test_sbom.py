"""The bill of materials is the lock, and names what is installed; images may be pinned by digest."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_versions import locked
from tests.unit.tree import ROOT

pytestmark = pytest.mark.unit
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def sbom() -> Any:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "image/sbom.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def echarts_version() -> str:
    return re.findall(r'^VERSION = "(.*)"', (ROOT / "image/echarts.py").read_text(), re.MULTILINE)[0]


def test_the_locks_bill_is_the_lock() -> None:
    command = [sys.executable, "image/sbom.py", "image/requirements.txt"]
    bom = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    named = {(one["name"], one["version"]) for one in bom["components"]}
    assert named == {(name, version) for name, pins in locked().items() for version, _ in pins}
    assert [one["name"] for one in bom["components"] if not one.get("hashes")] == []
    assert {one["purl"].partition("/")[0] for one in bom["components"]} == {"pkg:pypi"}


def test_an_environments_bill_has_what_the_lock_does_not_contradict(sbom: Any, tmp_path: Path) -> None:
    status = (
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\nPackage: gone\nStatus: deinstall ok config\n"
    )
    (tmp_path / "status").write_text(status)
    components = sbom.make_bom(sbom.read_environment(tmp_path / "status"))["components"]
    found = {one["name"]: one["version"] for one in components}
    assert found["libc6"] == "2.36" and "gone" not in found and found["ray"]
    assert [one["purl"] for one in components if one["name"] == "echarts"] == [f"pkg:npm/echarts@{echarts_version()}"]
    wrong = {n: found[n] for n, pins in locked().items() if n in found and found[n] not in {v for v, _ in pins}}
    assert wrong == {}


@pytest.mark.parametrize(
    "target, variable, image, words",
    [
        ("image", "PYTHON_IMAGE", "python:3.11@", "--build-arg PYTHON_IMAGE=python:3.11@{}"),
        ("minio", "MINIO_IMAGE", "quay.io/minio/minio:1@", "image: quay.io/minio/minio:1@{}|"),
        (
            "operator",
            "OPERATOR_IMAGE",
            "quay.io/kuberay/operator:v1.6.0@",
            "image.repository=quay.io/kuberay/operator --set image.tag=v1.6.0@{} ",
        ),
    ],
)
def test_images_by_digest(target: str, variable: str, image: str, words: str) -> None:
    assert shutil.which("make")
    # OPERATOR_MANIFEST of the environment would replace KubeRay's chart.
    command = ["make", "-n", "-o", "setup", target, "OPERATOR_MANIFEST=", f"{variable}={image}{DIGEST}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert words.format(DIGEST) in shown


def test_the_image_keeps_no_tool_of_its_build() -> None:
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    copied = [line for line in last.splitlines() if line.startswith(("COPY", "ADD"))]
    assert copied == ["COPY image/smoke.py image/sbom.py /opt/"]
    assert "/opt/uv" not in last.replace("source=/opt/uv/bin/uv", "") and " -m pip" not in last
