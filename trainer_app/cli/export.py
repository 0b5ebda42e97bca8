"""`trainer export`: a run's module as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from trainer_app.cli.options import Allow, Epoch, ImportFrom, Json, Log, OutputFile, Storage, Trial

SUFFIXES: Final = {"pt2": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors", "state-dict": ".pt"}
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name, path or URI [default: the newest].")]
Format = Annotated[
    Literal["pt2", "onnx", "safetensors", "state-dict"],
    typer.Option(
        "--format",
        help="pt2: torch.export's program; onnx: for ONNX Runtime; safetensors, state-dict: the weights alone.",
    ),
]


def export(
    run: Run = None,
    kind: Format = "pt2",
    output: OutputFile = None,
    trial: Trial = None,
    epoch: Epoch = None,
    storage: Storage = None,
    json: Json = False,
    log: Log = None,
    allow: Allow = None,
    import_from: ImportFrom = None,
) -> int:
    """Write a run's best checkpoint as a file, which is kept only if it computes what the module does.

    That runs the code that the run's stored file names, as far as it can be imported here.
    """
    from trainer_app import results
    from trainer_app.cli import redirect
    from trainer_app.run.cluster import prepare_environment
    from trainer_app.run.require import require, require_extra
    from trainer_app.storage import open_store

    uri, name = results.resolve_run(run, storage)
    name = name or results.newest_run(uri)
    require("torch", "lightning", "ray", what="trainer export")
    if kind == "onnx":
        require_extra("onnx", what="--format onnx")
    folders = [str(Path(folder).absolute()) for folder in import_from or ()]
    with redirect.to_log(redirect.log_path(log, name, uri)) as original:
        prepare_environment(folders)  # Ray reads it when it is imported
        from trainer_app.train import export as exporting

        target = output or f"{name}{SUFFIXES[kind]}"
        which: dict[str, Any] = {"trial": trial, "epoch": epoch, "allow": allow or ()}
        event = exporting.export(open_store(uri), name, target, kind=kind, **which)
        write_event(original.out, event, json=json)
    return 0


def write_event(out: Any, event: dict[str, Any], *, json: bool) -> None:
    """Print what was exported."""
    from trainer_app.cli.screen import write_now
    from trainer_app.formatting import clean_lines
    from trainer_app.records import to_json

    takes = f"\ninputs: {event['inputs']}" if event["inputs"] else ""
    text = f"{event['format']}: {event['file']}{takes}\ncheckpoint: {event['checkpoint']}"
    write_now(out, (to_json(event).decode() if json else clean_lines(text)) + "\n")
