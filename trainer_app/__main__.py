"""The command `trainer`: `main()` is the entry point of the distribution and of `python -m trainer_app`."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainer_app.cli.stdout import READER_GONE, forget_stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; the process's own if None.

    Returns:
        The exit code: 0, 1 a run failed, 2 bad input (nothing was started), 130 interrupted, 141 the reader of the
        output went away (`trainer list ... | head`).
    """
    if argv is None and sys.path[:1] == [str(Path.cwd())]:
        del sys.path[0]  # by `python -m`: the user's rich.py would hide the library from this command
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
        code = READER_GONE
    if argv is None and "ray" in sys.modules:
        _leave(code)
    return code


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
        from trainer_app.formatting import error_text

        sys.stderr.write(f"{error_text(e)}\n")
        return e.exit_code
    return 0


def _leave(code: int) -> NoReturn:
    """End the process without the interpreter's teardown, after what was registered for its end.

    Ray's threads aborted the process there (SIGABRT, exit 134) in 1 of 5 interrupted Train runs: a run that was
    recorded as it should be would have reported another exit code.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = READER_GONE
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
