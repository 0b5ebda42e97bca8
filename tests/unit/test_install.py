"""The lock is enforced: an archive whose hash differs, or that the lock does not name, is not installed.

Through the real uv, with the options of the Makefile and the Dockerfile, offline, on a distribution made here.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.unit.tree import ROOT

pytestmark = pytest.mark.unit
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def wheel(folder: Path, name: str, *, needs: str = "") -> str:
    """Writes a wheel NAME 1.0 with one module; its sha256."""
    info = f"{name}-1.0.dist-info"
    parts = {
        f"{name}.py": "x = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for part, text in parts.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{part},sha256={digest},{len(text)}\n"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for part, text in {**parts, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(part, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(folder: Path, lock: str, *source: str) -> subprocess.CompletedProcess[str]:
    assert UV, "uv is in [dev]: make setup"
    (folder / "lock.txt").write_text(lock)
    offline = ["--offline", "--no-index", "--find-links", str(folder), "--cache-dir", str(folder / "cache")]
    where = ["--python", sys.executable, "--target", str(folder / "site")]
    command = [UV, "pip", "install", "--compile-bytecode", "--require-hashes", *offline, *where, *source]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def lock(tmp_path: Path) -> dict[str, str]:
    """pyproject.toml with an extra `train`, and the lock's line of each distribution."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["first>=1"]\n'
        '[project.optional-dependencies]\ntrain = ["second>=1"]\ndev = ["third>=1"]\n'
    )
    hashes = {"first": wheel(tmp_path, "first"), "second": wheel(tmp_path, "second", needs="deep")}
    hashes |= {"third": wheel(tmp_path, "third"), "deep": wheel(tmp_path, "deep")}
    return {name: f"{name}==1.0 --hash=sha256:{digest}\n" for name, digest in hashes.items()}


SUBSET = ("-r", "pyproject.toml", "--extra", "train", "-c", "lock.txt")


def test_a_subset_is_installed_from_the_one_lock(tmp_path: Path, lock: dict[str, str]) -> None:
    run = install(tmp_path, "".join(lock.values()), *SUBSET)
    assert run.returncode == 0, run.stderr
    assert {p.name for p in (tmp_path / "site").glob("*.py")} == {"first.py", "second.py", "deep.py"}
    assert len(list((tmp_path / "site/__pycache__").glob("*.pyc"))) == 3


@pytest.mark.parametrize("source", [SUBSET, ("-r", "lock.txt")], ids=["subset", "all"])
@pytest.mark.parametrize("name", ["first", "deep"])
def test_a_wrong_hash_is_refused(tmp_path: Path, lock: dict[str, str], name: str, source: tuple[str, ...]) -> None:
    lock[name] = f"{name}==1.0 --hash=sha256:{'0' * 64}\n"
    run = install(tmp_path, "".join(lock.values()), *source)
    assert run.returncode != 0
    assert re.search(rf"[Hh]ash mismatch for `{name}==1.0`", run.stderr), run.stderr
    assert not (tmp_path / "site" / f"{name}.py").exists()


@pytest.mark.parametrize("name", ["first", "deep"])
def test_what_the_lock_does_not_name_is_refused(tmp_path: Path, lock: dict[str, str], name: str) -> None:
    run = install(tmp_path, "".join(line for n, line in lock.items() if n != name), *SUBSET)
    assert run.returncode != 0
    assert name in run.stderr and not (tmp_path / "site" / f"{name}.py").exists()


def test_the_image_may_be_given_an_extra_that_it_has() -> None:
    command = [sys.executable, "image/wanted.py", "train", "ui", "ui"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert tomllib.loads(printed)["project"]["optional-dependencies"].keys() == {"train", "ui"}


@pytest.mark.parametrize("path", [p for p in ("Makefile", "Dockerfile") if (ROOT / p).exists()])
def test_every_install_is_hashed_and_compiled(path: str) -> None:
    """The project itself is installed with --no-deps; everything else by hash."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^\n;&|]*)", text)
    assert installs
    for options in installs:
        assert "--require-hashes" in options or "--no-deps" in options, options
    assert any("--compile-bytecode" in options for options in installs)
