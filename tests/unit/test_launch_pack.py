"""`--code DIR`: what goes along, through the real git, and that the same files are the same bytes."""

import errno
import io
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from trainer_app import secret_files
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


@pytest.mark.parametrize("pattern", ["nothing.py", "../code/net.py", "/etc/passwd", "__pycache", "", "**x", "a\0b"])
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


SECRETS = (
    *(".env", "sub/.env.local", "prod.env", ".aws/credentials", "keys/id_rsa", "id_ed25519", "tls.pem", "server.KEY"),
    *("kubeconfig", "kubeconfig.yaml", "dev-kubeconfig.yml", ".kube/config", ".netrc", ".git-credentials"),
    *("credentials.json", "service-account.json", ".ssh/known_hosts", ".docker/config.json"),
    *("a/.Env.Production", "[odd] name.pem"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_with_secrets_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("canary")
    with pytest.raises(InputError, match=f"{re.escape(name)} may hold secrets.* .gitignore") as caught:
        pack.pack(folder)
    assert "canary" not in str(caught.value)
    assert shlex.split(str(caught.value))[-2:] == ["--include", name]
    assert name in pack.pack(folder, [name]).names
    (folder / ".gitignore").write_text(f"*.bin\n{name.replace('[', '?').replace(']', '?')}\n")
    assert name not in pack.pack(folder).names


OTHER_SECRETS = (
    *(".ENV", "ID_RSA", "id_ed25519_sk", "store.P12", ".AWS/Credentials", ".pgpass", ".npmrc"),
    *(".env~", ".env.bak", "..env.swp", "id_rsa.old", "tls.pem.1", "terraform.tfstate.backup", "prod.tfvars"),
    *("alice_accessKeys.csv", "kaggle.json", ".s3cfg", ".bash_history", "app.keystore"),
)


@pytest.mark.parametrize("name", OTHER_SECRETS)
def test_these_names_are_secrets_too(folder: Path, name: str) -> None:
    assert secret_files.is_secret_name(name)


KUBECONFIG = "apiVersion: v1\nclusters:\n- cluster: {certificate-authority-data: %s}\nkind: Config\nusers: []\n"
KEY = "-----BEGIN PRIVATE KEY-----%sMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n",
        "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\n",
        KUBECONFIG % ("A" * 20_000),
        (KUBECONFIG % "A").replace("\n", "\r\n"),
        '{"kind":"Config","apiVersion":"v1","users":[]}',
        "\ufeff-----BEGIN RSA PRIVATE KEY-----\n",
        "Bag Attributes\n    friendlyName: x\n" + KEY % "\n",
        '{"type": "service_account", "private_key": "' + KEY % r"\n" + '"}',
        "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = " + "wJalrXUt" * 5,
        '{"auths": {"ghcr.io": {"auth": "YWxpY2U6c2VjcmV0"}}}',
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData:\n  AWS_SECRET_ACCESS_KEY: canary\n",
        '{"apiVersion": "v1", "kind": "Secret", "data": {"key": "Y2FuYXJ5"}}',
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
        "# created: 2026\nAGE-SECRET-KEY-1QQPZ\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_with_secrets_is_known_by_its_text(folder: Path, text: str, encoding: str) -> None:
    (folder / "deploy").write_bytes(text.encode(encoding))
    assert secret_files.find_secret_files(folder, ["deploy", "net.py"]) == ["deploy"]


@pytest.mark.parametrize(
    "name, text",
    [
        ("templates/deployment.yaml", "kind: Secret\ndata:\n  key: {{ .Values.key }}\n"),
        ("reference.yaml", "kind: ExternalSecret\nsecretKeyRef: {name: a}\ndata:\n  key: a\n"),
        ("keys.py", 'BEGIN = "-----BEGIN PRIVATE KEY-----"\naws_secret_access_key = os.environ["X"]\n'),
        ("manual.md", "```yaml\nkind: Secret\ndata:\n  key: VALUE\n```\n"),
        ("tokenizer.json", '{"kind": "Configuration", "users": 1}'),
        ("environment.yml", "name: env\n"),
        ("history.py", ""),
    ],
)
def test_text_about_secrets_is_packed(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    assert secret_files.find_secret_files(folder, [name]) == []


@pytest.mark.parametrize("pattern", ["keys", "*", "keys/*", "**/*"])
def test_an_include_of_all_files_names_no_secret(folder: Path, pattern: str) -> None:
    (folder / "keys").mkdir()
    (folder / "keys/tls.pem").write_text("canary")
    with pytest.raises(InputError, match=r"keys/tls.pem may hold secrets"):
        pack.pack(folder, [pattern])
    for named in ("keys/tls.pem", "keys/*.pem"):
        assert "keys/tls.pem" in pack.pack(folder, [pattern, named]).names


@pytest.mark.parametrize("name", [b"odd\xff.py", b"new\nline.txt", b"\x1b[2J.py"])
def test_a_name_that_no_archive_or_terminal_takes_is_refused(folder: Path, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_text("")
    with pytest.raises(InputError, match="names of files are UTF-8 without control characters") as caught:
        pack.pack(folder)
    assert str(caught.value).isprintable()


def test_a_file_that_can_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(names: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "sub/data.py")

    monkeypatch.setattr(pack, "_archive", refuse)
    with pytest.raises(InputError, match=r"can't read sub/data.py: Permission denied; exclude it"):
        pack.pack(folder)


def test_a_hook_of_another_repository_packs_the_folder_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("init", "-q", cwd=folder)
    other = tmp_path / "other"
    other.mkdir()
    git("init", "-q", cwd=other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert pack.pack(folder).names == WANTED


def test_a_worktree_and_one_inside_go_along(folder: Path, tmp_path: Path) -> None:
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", cwd=folder)
    git("worktree", "add", "-q", str(tmp_path / "tree"), cwd=folder)
    git("worktree", "add", "-q", "-b", "inner", "nested", cwd=folder)
    assert pack.pack(tmp_path / "tree").names == WANTED
    assert pack.pack(folder).names == tuple(sorted({*WANTED, *(f"nested/{name}" for name in WANTED)}))


def test_an_include_through_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.txt").write_text("canary")
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=r"link/x.txt is a link out of the folder"):
        pack.pack(folder, ["link/*"])


@pytest.mark.parametrize("name", [".env.example", "id_rsa.pub", "environment.yaml", "key.py", "credentials.py"])
def test_files_without_secrets_are_packed(folder: Path, name: str) -> None:
    (folder / name).write_text("kind: Deployment\n")
    assert name in pack.pack(folder).names


@pytest.fixture
def traps(folder: Path) -> Path:
    """A file that exists once a program of the repository's configuration was run."""
    trap, program = folder.parent / "trap", folder.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {trap}\n")
    program.chmod(0o755)
    git("init", "-q", cwd=folder)
    git("config", "core.fsmonitor", str(program), cwd=folder)
    git("config", "core.hooksPath", str(folder.parent), cwd=folder)
    return trap


def test_git_runs_no_program_of_a_repository(folder: Path, traps: Path) -> None:
    assert pack.pack(folder).names == WANTED
    assert not traps.exists()
    git("ls-files", "--others", cwd=folder)
    assert traps.exists(), "the trap is one"


@pytest.mark.parametrize("below", [".", "sub"])
def test_a_repository_of_another_user_is_refused(
    folder: Path, traps: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for its tests
    with pytest.raises(InputError, match=r"another user; if you trust that user: git config --global --add safe") as e:
        pack.pack(folder / below)
    assert str(folder) in str(e.value) and not traps.exists()
