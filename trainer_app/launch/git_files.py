"""Which files of a folder git lists, and which it ignores; no program that a repository names is run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainer_app.errors import InputError, TrainerError
from trainer_app.formatting import one_line

TIMEOUT_S: Final = 30
_LIST_COMMAND: Final = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
_IGNORED_COMMAND: Final = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
_SAFE: Final = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "safe.bareRepository=explicit")
_DUBIOUS: Final = re.compile(r"dubious ownership in repository at '([^']*)'")
# Of a hook that git runs, and that submits: they name the repository that it runs in, whatever folder is asked about.
_INHERITED: Final = re.compile(r"GIT_(DIR|WORK_TREE|INDEX_FILE|COMMON_DIR|PREFIX|NAMESPACE|\w*OBJECT_DIRECTOR\w+)")


@dataclass(frozen=True)
class Listing:
    """Paths relative to a folder: what git lists, what it ignores, and submodules that are not checked out."""

    names: list[str]
    ignored: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def list_files(root: Path) -> Listing:
    """Return the files of a folder as git sees them, those of repositories inside it too.

    Raises:
        TrainerError: git is needed and not there, or fails. InputError: a repository is another user's.
    """
    git = shutil.which("git")
    if git is None:
        if ignored := next(root.rglob(".gitignore"), None):
            raise TrainerError(f"git is not on PATH, and is needed to read {ignored}; install git")
        return Listing([path.relative_to(root).as_posix() for path in root.rglob("*")])
    inside = _git(git, ["-C", str(root), "rev-parse", "--is-inside-work-tree"])
    if inside.returncode == 0 and inside.stdout.strip() == b"true":
        return _list_repository(git, root)
    # A folder outside any repository: git reads its .gitignore files with an empty repository beside it.
    with tempfile.TemporaryDirectory(prefix="trainer-") as empty:
        _git(git, ["init", "--quiet", "--bare", empty])
        options = (f"--git-dir={empty}", f"--work-tree={root.absolute()}", "-c", "core.bare=false")
        return _list_repository(git, root, options)


def _list_repository(git: str, root: Path, options: Sequence[str] = ()) -> Listing:
    """Return what git lists, with the files of submodules and other clones, of which it lists the folder only."""
    commands = (["-C", str(root), *options, *command] for command in (_LIST_COMMAND, _IGNORED_COMMAND))
    listing = Listing(*(_file_names(_git(git, command)) for command in commands))
    for name in [name.rstrip("/") for name in listing.names]:
        folder = root / name
        if folder.is_symlink() or not folder.is_dir():
            continue
        if not (folder / ".git").exists():
            listing.absent.append(name)
            continue
        below = _list_repository(git, folder)
        for paths, found in (
            (listing.names, below.names),
            (listing.ignored, below.ignored),
            (listing.absent, below.absent),
        ):
            paths += [f"{name}/{path}" for path in found]
    return listing


def _git(git: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run git, which runs no program that a repository's configuration names, and refuses another user's repository."""
    command = [git, *(part for setting in _SAFE for part in ("-c", setting)), *arguments]
    kept = {name: value for name, value in os.environ.items() if not _INHERITED.fullmatch(name)}
    environment = {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired as error:
        raise TrainerError(f"git did not list the files within {TIMEOUT_S} s") from error
    if done.returncode and (refused := _DUBIOUS.search(done.stderr.decode(errors="replace"))):
        raise InputError(
            f"git does not read {refused[1]}, which belongs to another user; if you trust that user: "
            f"git config --global --add safe.directory {shlex.quote(refused[1])}"
        )
    return done


def _file_names(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    if done.returncode:
        message = one_line(done.stderr.decode(errors="replace"))[:300]
        raise TrainerError(f"git can't list the files of --code: {message}")
    return [name.decode(errors="surrogateescape") for name in done.stdout.split(b"\0") if name]
