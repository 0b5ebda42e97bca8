"""`--code DIR`: what goes along, through the real git, and that the same files are the same bytes."""

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from trainer_app.errors import InputError, TrainerError
from trainer_app.launch import pack

pytestmark = [pytest.mark.unit, pytest.mark.skipif(shutil.which("git") is None, reason="needs git: not on PATH")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Modules, and what should stay behind by a .gitignore, by a nested one, and always."""
    root = tmp_path / "code"
    for name in ("net.py", "sub/data.py", "sub/kept.log", "sub/lost.log", "big.bin", "__pycache__/net.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".gitignore").write_text("*.bin\n")
    (root / "sub/.gitignore").write_text("*.log\n!kept.log\n")
    return root


WANTED = (".gitignore", "net.py", "sub/.gitignore", "sub/data.py", "sub/kept.log")


def git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True)


def test_outside_a_repository_gitignore_counts(folder: Path) -> None:
    packed = pack.pack(folder)
    assert packed.names == WANTED
    with zipfile.ZipFile(io.BytesIO(packed.data)) as archive:
        assert archive.read("sub/data.py") == b"sub/data.py" and archive.testzip() is None


def test_inside_a_repository_its_gitignore_counts_too(folder: Path) -> None:
    git("init", "-q", cwd=folder.parent)
    (folder.parent / ".gitignore").write_text("kept.log\ndata.py\n")
    git("add", "-f", "code/sub/data.py", cwd=folder.parent)  # what is tracked goes along, ignored or not
    assert pack.pack(folder).names == (".gitignore", "net.py", "sub/.gitignore", "sub/data.py", "sub/kept.log")
    git("rm", "-q", "--cached", "code/sub/data.py", cwd=folder.parent)
    assert "sub/data.py" not in pack.pack(folder).names


def test_a_file_that_was_deleted_is_no_longer_packed(folder: Path) -> None:
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    (folder / "sub/data.py").unlink()
    assert "sub/data.py" not in pack.pack(folder).names


def test_the_same_files_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = pack.pack(folder)
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    os.utime(other / "net.py", (1, 1))
    (other / "net.py").chmod(0o664)
    assert pack.pack(other).data == first.data and pack.pack(other).digest == first.digest
    (other / "net.py").write_text("edited")
    assert pack.pack(other).digest != first.digest


def test_too_much_names_the_largest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "weights.pt").write_bytes(b"\0" * (2 << 20))
    monkeypatch.setattr(pack, "LIMIT_MB", 1)
    with pytest.raises(InputError, match=r"2\.0 MB in 6 files, more than 1 MB; the largest: weights.pt \(2\.0 MB\)"):
        pack.pack(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "passwords.py").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"passwords\.py is a link out of the folder"):
        pack.pack(folder)


def test_a_folder_without_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(InputError, match=r"no \.py file"):
        pack.pack(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        pack.pack(tmp_path / "none")


def test_without_git_a_gitignore_can_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TrainerError, match="install git"):
        pack.pack(folder)
    for file in folder.rglob(".gitignore"):
        file.unlink()
    assert pack.pack(folder).names == ("big.bin", "net.py", "sub/data.py", "sub/kept.log", "sub/lost.log")
