"""The command `trainer`: `main()` is the entry point of the distribution and of `python -m trainer_app`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# 128 + SIGPIPE, what a shell reports for any command whose reader went away.
READER_GONE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; the process's own if None.

    Returns:
        The exit code: 0, 1 a run failed, 2 bad input (nothing was started), 130 interrupted,
        141 the reader of the output went away (`trainer list ... | head`).
    """
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _forget_stdout()
        return READER_GONE


def _dispatch(argv: Sequence[str] | None) -> int:
    from trainer_app.cli.app import trainer
    from trainer_app.errors import TrainerError

    try:
        trainer().main(args=None if argv is None else list(argv), prog_name="trainer")
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        return 130
    except TrainerError as e:
        from trainer_app.cli.text import error_text

        sys.stderr.write(f"{error_text(e)}\n")
        return e.exit_code
    return 0


def _forget_stdout() -> None:
    """Python flushes stdout once more at its end: let that go nowhere instead of printing a second error."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


if __name__ == "__main__":
    sys.exit(main())
