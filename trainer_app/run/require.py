"""What the plain install lacks."""

from __future__ import annotations

from importlib.util import find_spec

from trainer_app.errors import TrainerError


def require(*modules: str, what: str, extra: str = "train") -> None:
    """Check that the `modules` of an extra are installed.

    Only our own wheel is named: a package of its name in a registry is somebody else's.

    Args:
        what: the verb or option that needs them, for the message.
        extra: what they come with.

    Raises:
        TrainerError: some are missing; it says what to install.
    """
    missing = [name for name in modules if not _is_installed(name)]
    if missing:
        how = f"install trainer's wheel, or its checkout, with the extra [{extra}] (README: Install)"
        raise TrainerError(f"{what} needs {', '.join(missing)}, not installed here: {how}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # one that is blocked
        return False
