"""The wheel carries chart and values: its launcher renders away from the checkout, without torch and Ray."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.run_samples import train_run
from tests.unit.tree import ROOT
from trainer_app.storage import open_store

pytestmark = pytest.mark.chart
# As in an install that has no [train]: whatever the launcher imports, it is none of these.
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning", "ray", "numpy", "torchvision"):
            raise ImportError(name + " is not in the plain install")
sys.meta_path.insert(0, Refuse())
from trainer_app.__main__ import main
import trainer_app
assert trainer_app.__file__.startswith(sys.argv[1]), trainer_app.__file__
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built, and unpacked as an installer would."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        archive.extractall(out / "site")
    return out / "site"


def trainer(wheel: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", REFUSE, str(wheel), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


def test_it_renders_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: mine\nmodel: {class_path: my.Net}\ndata: {class_path: my.Data}\n")
    (tmp_path / "my.py").write_text("x = 1\n")
    words = ("run.yaml", "-f", "kind", "--name", "mine", "--code", ".")
    done = trainer(wheel, tmp_path, "render", "train", *words)
    assert done.returncode == 0, done.stderr
    kinds = [thing["kind"] for thing in yaml.safe_load_all(done.stdout) if thing]
    assert "RayJob" in kinds and "TRAINER_CODE" in done.stdout
    again = trainer(wheel, tmp_path, "submit", "train", *words, "--dry-run")
    assert again.stdout.count("kind: RayJob") == 1


@pytest.mark.parametrize("verb", ["submit", "status", "logs", "list", "wait", "stop", "resume", "delete", "doctor"])
def test_every_verb_starts(wheel: Path, tmp_path: Path, verb: str) -> None:
    done = trainer(wheel, tmp_path, verb, "--help")
    assert done.returncode == 0 and f"trainer {verb}" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "verb", ["status", "logs", "wait", "stop x", "resume x", "results -n x", "list -n x", "delete x"]
)
def test_without_a_kubeconfig_each_verb_says_so(wheel: Path, tmp_path: Path, verb: str) -> None:
    done = trainer(wheel, tmp_path, *verb.split())
    assert done.returncode == 2 and done.stderr.startswith("error: no cluster is configured"), done.stderr


def test_it_writes_a_page_with_the_plotting_library_and_has_its_licence(wheel: Path, tmp_path: Path) -> None:
    train_run(open_store(str(tmp_path / "runs")), "mine")
    done = trainer(wheel, tmp_path, "report", "runs/mine")
    assert done.returncode == 0, done.stderr
    libraries = [path.relative_to(wheel).as_posix() for path in wheel.rglob("*echarts*")]
    assert libraries == ["trainer_app/report/vendor/echarts.min.js"]
    library = (wheel / libraries[0]).read_text()
    assert (tmp_path / "mine.html").read_text().count(library) == 1
    assert {"LICENSE", "NOTICE", "LICENSE-d3"} <= {path.name for path in (wheel / libraries[0]).parent.iterdir()}
