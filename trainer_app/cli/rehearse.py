"""A rehearsal on a screen: what the user's code prints goes to a log."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trainer_app.cli import redirect
from trainer_app.cli.screen import write_now
from trainer_app.errors import TrainerError
from trainer_app.formatting import format_pairs, one_line
from trainer_app.run.require import require

if TYPE_CHECKING:
    from trainer_app.rehearsal import Rehearsal


def rehearse(files: Sequence[str], overrides: Sequence[str], *, option: str, **how: Any) -> Rehearsal:
    """Rehearse a run, and return what it did.

    Args:
        files, overrides, how: see `rehearsal.rehearse`.
        option: the option that asks for it, for a message.

    Raises:
        TrainerError: what the run would end with.
    """
    require("torch", "lightning", "ray", what=option)
    log = redirect.default_log("rehearsal", ".")
    with redirect.to_log(log) as original:
        from trainer_app import rehearsal

        try:
            return rehearsal.rehearse(files, overrides, **how)
        except TrainerError as error:
            cause = getattr(error, "traceback", None)
            print(cause or "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
            if cause:
                write_now(original.err, f"the traceback, and what the code printed: {log}\n")
            raise


def describe(done: Rehearsal) -> Iterator[str]:
    """Yield in lines what a rehearsal did."""
    yield f"rehearsed on {done.device} in {done.seconds:.1f} s, one batch each: {', '.join(done.done)}"
    if done.params:
        yield f"trial: {format_pairs(done.params, short=False)}"
    yield f"logged: {', '.join(done.logged) or 'nothing'}"
    for note in done.notes:
        yield f"note: {one_line(note)}"
