"""What is shared with the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer_app.machine import make_private_folder, temporary_environment

pytestmark = pytest.mark.unit


def test_the_environment_is_put_back_whatever_happens_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "before")
    monkeypatch.delenv("NEW", raising=False)
    with temporary_environment({"THERE": "inside", "NEW": "inside"}):
        seen = (os.environ["THERE"], os.environ["NEW"])
    assert seen == ("inside", "inside")
    assert os.environ["THERE"] == "before" and "NEW" not in os.environ
    with pytest.raises(ValueError, match="inside"), temporary_environment({"THERE": "inside"}):
        raise ValueError("inside")
    assert os.environ["THERE"] == "before" and "NEW" not in os.environ


def test_only_a_folder_of_ones_own_is_one(tmp_path: Path) -> None:
    made, other, link, file = (tmp_path / name for name in ("made", "other", "link", "file"))
    assert make_private_folder(made) and made.stat().st_mode & 0o777 == 0o700
    assert make_private_folder(made)
    other.mkdir()
    other.chmod(0o777)
    assert not make_private_folder(other)
    link.symlink_to(made)
    assert not make_private_folder(link)
    file.touch()
    assert not make_private_folder(file)
