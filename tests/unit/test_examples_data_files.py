"""Files as data: where they may be, one verified copy a node, and archives that are not trusted."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from pathlib import Path

import pytest

from trainer_app.examples.data.files import Files, fetch_files
from trainer_app.examples.data.idx import DataError

pytestmark = pytest.mark.unit
CONTENT = {"ant/a.txt": b"one", "bee/b.txt": b"two" * 1000, "bee/deep/c.txt": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


def write_folder(folder: Path) -> Path:
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, member in members.items():
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = b"" if isinstance(member, tarfile.TarInfo) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def content_of(files: Files) -> dict[str, bytes]:
    return {p.relative_to(files.path).as_posix(): p.read_bytes() for p in files.path.rglob("*") if p.is_file()}


def test_what_is_here_is_used_where_it_is(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "work/data")
    files = fetch_files("data")
    assert files.path == folder and files.source == str(folder) and files.checksum.startswith("sha256:")
    one = fetch_files(f"file:{folder}/ant/a.txt")
    assert one == Files(f"{folder}/ant/a.txt", f"sha256:{hashlib.sha256(b'one').hexdigest()}", folder / "ant/a.txt")
    assert fetch_files(f"file://{folder}") == files
    assert not (cache / "folders").exists() and not (cache / "files").exists()


@pytest.mark.parametrize(
    "name, mode",
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.TGZ", "w:gz"), ("a.tar.xz", "w:xz"), ("a.tar.bz2", "w:bz2")],
)
def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path, name: str, mode: str) -> None:
    archive = write_archive(tmp_path / name, {**CONTENT, "./._a.txt": b"macOS", ".hidden/x": b"1"}, mode)
    files = fetch_files(str(archive))
    assert content_of(files) == CONTENT and files.path.is_relative_to(cache)
    assert files.checksum == fetch_files(str(write_folder(tmp_path / "same"))).checksum
    made = files.path.stat().st_ino
    assert fetch_files(str(archive)).path.stat().st_ino == made
    archive.unlink()  # a worker has the copy of its node
    assert fetch_files(str(archive), checksum=files.checksum) == files


def test_a_damaged_copy_is_made_again(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar", dict(CONTENT), "w")
    files = fetch_files(str(archive))
    (files.path / "ant/a.txt").write_bytes(b"onE")
    assert content_of(fetch_files(str(archive), checksum=files.checksum)) == CONTENT
    (files.path / "bee/b.txt").unlink()
    assert content_of(fetch_files(str(archive))) == CONTENT


def test_other_files_than_the_run_began_with_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d")
    files = fetch_files(str(folder))
    time.sleep(0.02)
    (folder / "ant/a.txt").write_bytes(b"six")
    assert fetch_files(str(folder)).checksum != files.checksum
    with pytest.raises(DataError, match=r"/d' holds sha256:\w+\.\.\., the run started with sha256:\w+\.\.\.; restore"):
        fetch_files(str(folder), checksum=files.checksum)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "name, member, message",
    [
        ("../out.txt", b"1", "'../out.txt' lies outside of the archive's folder"),
        ("a/../../out.txt", b"1", "lies outside of the archive's folder"),
        ("/tmp/out.txt", b"1", "'/tmp/out.txt' lies outside"),
        ("a", link("a", "/etc/passwd"), r"'a' is a link; pack files only \(tar --dereference\)"),
        ("a", link("a", "ant/a.txt"), "'a' is a link"),
        ("a", link("a", "ant/a.txt", tarfile.LNKTYPE), "'a' is a link"),
        ("a", link("a", "", tarfile.FIFOTYPE), "'a' is neither a file nor a folder"),
        ("a", link("a", "", tarfile.CHRTYPE), "'a' is neither a file nor a folder"),
    ],
)
def test_an_archive_writes_nothing_elsewhere(
    tmp_path: Path, cache: Path, name: str, member: bytes | tarfile.TarInfo, message: str
) -> None:
    archive = write_archive(tmp_path / "a.tar.gz", {**CONTENT, name: member})
    with pytest.raises(DataError, match=message) as e:
        fetch_files(str(archive))
    assert str(e.value).startswith(str(archive)) and "\n" not in str(e.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "cache", "work"]
    assert not list(cache.glob("partial-*")) and not (cache / "folders").exists()


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_archive_is_refused_in_a_line(tmp_path: Path, damage: str) -> None:
    archive = write_archive(tmp_path / "a.tar.gz", {"a": bytes(range(256)) * 400})
    content = archive.read_bytes()
    archive.write_bytes({"cut": content[: len(content) // 2], "text": b"no archive", "empty": b""}[damage])
    with pytest.raises(DataError, match=r"a.tar.gz: not a complete tar archive: .*; fetch it again") as e:
        fetch_files(str(archive))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere", r"there is no .*/nowhere on this machine; allowed: made, a folder, a file"),
        ("gs://bucket/x", "unknown kind 'gs'; allowed: made, a folder"),
        ("s3://key:secret@bucket/x", "allowed"),
    ],
)
def test_what_is_no_source_is_refused_in_a_line(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as e:
        fetch_files(source, made={"made": lambda folder: None})
    assert "\n" not in str(e.value) and "secret" not in str(e.value)


def test_what_is_made_here_is_made_once(cache: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "model.pth").write_bytes(b"12")

    files = [fetch_files("made", made={"made": make}) for _ in range(2)]
    assert len(calls) == 1 and files[0] == files[1]
    assert files[0].path.name == "model.pth" and files[0].checksum == f"sha256:{hashlib.sha256(b'12').hexdigest()}"
