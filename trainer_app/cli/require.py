"""What the plain install lacks."""

from __future__ import annotations

from importlib.util import find_spec

from trainer_app.errors import TrainerError


def need(*modules: str, what: str) -> None:
    """Refuse in one line what needs torch and the like.

    Args:
        what: who needs them: `training`.

    Raises:
        TrainerError: with what to install. Only our own wheel is named: a registry's package of its name is another's.
    """
    missing = [name for name in modules if not _there(name)]
    if missing:
        how = "install trainer's wheel, or its checkout, with the extra [train] (README: Install)"
        raise TrainerError(f"{what} needs {', '.join(missing)}, not installed here: {how}")


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # one that is blocked
        return False
