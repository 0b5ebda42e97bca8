"""`trainer export`: a run's module as a file for other programs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import typer

from trainer_app.cli.options import Allow, Epoch, ImportFrom, Json, Log, OutputFile, RunOrNewest, Storage, Trial
from trainer_app.cli.stored_run import check_output, stored_run

SUFFIXES: Final = {"pt2": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors", "state-dict": ".pt"}
Format = Annotated[
    Literal["pt2", "onnx", "safetensors", "state-dict"],
    typer.Option(
        "--format",
        help="pt2: torch.export's program; onnx: for ONNX Runtime; safetensors, state-dict: the weights alone.",
    ),
]


def export(
    run: RunOrNewest = None,
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
    from trainer_app.run.require import require_extra

    if kind == "onnx":
        require_extra("onnx", what="--format onnx")
    with stored_run(run, storage, log, import_from, verb="export") as stored:
        from trainer_app.training import export as exporting

        target = check_output(output or f"{stored.name}{SUFFIXES[kind]}")
        which: dict[str, Any] = {"trial": trial, "epoch": epoch, "allow": allow or ()}
        event = exporting.export(stored.store, stored.name, target, kind=kind, **which)
        takes = f"\ninputs: {event['inputs']}" if event["inputs"] else ""
        stored.write(event, f"{kind}: {event['file']}{takes}\ncheckpoint: {event['checkpoint']}", json=json)
    return 0
