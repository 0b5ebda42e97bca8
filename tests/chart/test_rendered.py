"""k8s/rendered and the chart's README are what `make manifests` writes now."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.chart
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "k8s/rendered"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("helm") is None:
        pytest.skip("needs helm: not on PATH")
    folder = tmp_path_factory.mktemp("rendered")
    # -o setup: what is installed is not looked at again
    words = ["make", "-s", "-o", "setup", "manifests", f"RENDERED={folder}", f"VALUES_README={folder}/README.md"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return folder


def test_rendered_manifests_are_the_charts(written: Path) -> None:
    names = sorted(path.name for path in written.glob("*.yaml"))
    assert names == sorted(path.name for path in KEPT.iterdir())
    assert names == ["raycluster.yaml", "raycronjob.yaml", "rayjob-train.yaml", "rayjob-tune.yaml"]
    for name in names:
        assert _lines(written / name) == _lines(KEPT / name), f"{name} differs from the chart: make manifests"


def _lines(file: Path) -> list[str]:
    """Without empty ones: Helm 4 puts more of them between objects than Helm 3."""
    return [line for line in file.read_text().splitlines() if line]


def test_the_readme_of_the_values_is_the_values(written: Path) -> None:
    made = (written / "README.md").read_text()
    assert made == (ROOT / "helm/trainer/README.md").read_text(), "helm/trainer/README.md is old: make manifests"


@pytest.mark.parametrize("name", sorted(path.name for path in KEPT.iterdir()))
def test_each_can_be_applied_as_it_is(name: str) -> None:
    things = [thing for thing in yaml.safe_load_all((KEPT / name).read_text()) if thing]
    assert {thing["metadata"]["namespace"] for thing in things} == {"trainer"}
    assert [thing["kind"] for thing in things if thing["kind"].startswith("Ray")] == [
        {"rayc": "RayCluster", "rayj": "RayJob"}.get(name[:4], "") if "cron" not in name else "RayCronJob"
    ]
