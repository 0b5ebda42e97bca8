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


@pytest.fixture
def clones(folder: Path) -> Path:
    """A repository with a submodule, another clone, and one in that, each with ignored modules."""
    library = folder.parent / "library"
    library.mkdir()
    git("init", "-q", cwd=library)
    (library / "lib.py").write_text("")
    (library / ".gitignore").write_text("made.py\n")
    git("add", ".", cwd=library)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", cwd=library)
    git("init", "-q", cwd=folder)
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "submodule", cwd=folder)
    for clone in ("clone", "clone/inner"):
        git("clone", "-q", str(library), clone, cwd=folder)
        (folder / clone / "made.py").write_text("")
    (folder / "clone/new.py").write_text("")
    return folder


LIBRARY = (".gitignore", "lib.py")


@pytest.mark.parametrize("in_a_repository", [True, False])
def test_submodules_and_clones_go_along(clones: Path, in_a_repository: bool) -> None:
    if not in_a_repository:
        shutil.rmtree(clones / ".git")
        shutil.rmtree(clones / "submodule")
    packed = pack.pack(clones)
    below = {f"{clone}/{name}" for clone in ("clone", "clone/inner", "submodule") for name in LIBRARY}
    if not in_a_repository:
        below = {name for name in below if not name.startswith("submodule")}
    assert set(packed.names) == {*WANTED, ".gitmodules", "clone/new.py", *below}
    assert packed.notes == (
        f"--code {clones}: git ignores clone/inner/made.py, clone/made.py; to pack that too: --include PATTERN",
    )


def test_a_submodule_that_is_not_checked_out_is_named(clones: Path) -> None:
    git("-c", "protocol.file.allow=always", "submodule", "deinit", "-q", "-f", "submodule", cwd=clones)
    assert "of submodule nothing is packed, since the submodule is not checked out: git submodule update" in str(
        pack.pack(clones).notes
    )


def test_ignored_modules_are_named_or_included(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.bin\nmade.py\ngen/\nenv/\nruns/\nbuild/\n")
    for name in (
        "made.py",
        "gen/deep/er/pkg/a_pb2.py",
        "gen/data.txt",
        "env/pyvenv.cfg",
        "env/x.py",
        "runs/1/a.txt",
        "runs/env/pyvenv.cfg",
        "runs/env/x.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (note,) = pack.pack(folder).notes
    assert note == f"--code {folder}: git ignores gen/, made.py; to pack that too: --include PATTERN"
    packed = pack.pack(folder, ["gen", "made.py", "sub/*.log"])
    assert packed.notes == ()
    assert packed.names == tuple(
        sorted({*WANTED, "gen/data.txt", "gen/deep/er/pkg/a_pb2.py", "made.py", "sub/lost.log"})
    )


@pytest.mark.parametrize("pattern", ["nothing.py", "../code/net.py", "/etc/passwd", "__pycache", ""])
def test_a_pattern_without_files_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"--include .*such as gen/"):
        pack.pack(folder, [pattern])


def test_links_to_folders_go_along_if_they_lead_inside(folder: Path, tmp_path: Path) -> None:
    (folder / "alias").symlink_to("sub")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "sub/around").symlink_to("..")
    packed = pack.pack(folder)
    copies = ("alias/.gitignore", "alias/data.py", "alias/kept.log")
    assert packed.names == tuple(sorted({*WANTED, *copies}))
    assert "outside, sub/around is not packed" in packed.notes[0]


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
