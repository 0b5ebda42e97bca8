"""Predict with a commit of a run: rows in parts, each committed once, and one file of them at the end."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer_app import lightning_cli
from trainer_app.data.rows import count_rows, list_files
from trainer_app.errors import InputError
from trainer_app.records.plain_json import to_json
from trainer_app.run import cluster, lease, user_code
from trainer_app.storage import Store, open_store, split_uri
from trainer_app.storage_uri import join_uri
from trainer_app.temporary import temporary_folder
from trainer_app.training.chosen import Chosen, choose
from trainer_app.training.failures import root_cause
from trainer_app.training.prediction_parts import Part, plan_loaders, split_rows
from trainer_app.training.prediction_table import ROW, write_file
from trainer_app.training.predictor import PartWorker, PredictJob, Predictor, raise_error
from trainer_app.user_errors import is_user_file

SUFFIXES: Final = (".parquet", ".csv")
MANIFEST: Final = "manifest.json"
MANY_PARTS: Final = 8  # from here on all CPUs predict: starting Ray takes as long as some parts
Say = Callable[[int, int], Any]


@dataclass(frozen=True)
class PredictRequest:
    """What a user asks for, unchecked."""

    target: str  # a path or an S3 URI
    data: str | None = None  # a file or a folder of rows; None for the run's own `predict_dataloader`
    columns: tuple[str, ...] = ()  # side by side as one tensor; none: all of them by name
    keep: tuple[str, ...] = ()  # of the rows, in the output too
    batch_size: int = 1024
    part_rows: int = 10_000
    workers: int | None = None
    trial: str | None = None
    epoch: int | None = None
    allow: tuple[str, ...] = ()


def predict(store: Store, run: str, request: PredictRequest, *, say: Say = lambda done, total: None) -> dict[str, Any]:
    """Predict, continuing what the same request has left when it was killed.

    Args:
        say: called with the numbers of finished parts and of all parts.

    Returns:
        the event `predict`: {"event", "file", "rows", "parts", "kept", "checkpoint", "trial"}; `kept` are the parts of
        earlier attempts.

    Raises:
        NotFoundError: no such commit or file. InputError: the request, or its data, is wrong.
        TrainerError: what the user's code, or the storage, raised.
    """
    check_request(request)
    chosen = choose(store, run, trial=request.trial, epoch=request.epoch, allow=request.allow)
    job = _make_job(store, chosen, request)
    parts = _plan(job, request)
    if not parts:
        raise InputError("there are no rows to predict")
    _check_apart(job, request.target)
    code = job.code or _digest_code(chosen)
    job = replace(job, key=_make_key(job, parts, request.target, code))
    with _leased(job.store()) as folder:
        kept = {entry.key for entry in folder.list()}
        if MANIFEST not in kept:
            folder.put(MANIFEST, to_json({"request": asdict(request), "parts": [asdict(part) for part in parts]}))
        left = [part for part in parts if part.key not in kept]
        say(len(parts) - len(left), len(parts))
        for done, _ in enumerate(_run(job, left, chosen, request.workers), len(parts) - len(left) + 1):
            say(done, len(parts))
        rows = _assemble(folder, parts, request.target)
        folder.delete_prefix("")
    result = {"file": request.target, "rows": rows, "parts": len(parts), "kept": len(parts) - len(left)}
    return {"event": "predict", **result, "checkpoint": chosen.checkpoint.uri, "trial": chosen.checkpoint.trial}


@contextmanager
def _leased(folder: Store) -> Iterator[Store]:
    """Hold the lease of a prediction: who makes the same one waits, and `trainer clean` leaves its parts."""
    lease.acquire(folder, None, wait=True)
    try:
        yield folder
    finally:
        lease.release(folder)


def _kind(target: str) -> str:
    return Path(target.partition("?")[0]).suffix


def check_request(request: PredictRequest) -> None:
    """Raise InputError if what is asked for can't be, before anything is read."""
    if _kind(request.target) not in SUFFIXES:
        raise InputError(f"-o {request.target}: its name must end with {' or '.join(SUFFIXES)}")
    if ROW in request.keep:
        raise InputError(f"--keep {ROW}: the output has the number of each row under this name")
    if request.data is None and (request.columns or request.keep):
        raise InputError("--columns and --keep are of the rows of --data; the data module says itself what a batch is")


def _check_apart(job: PredictJob, target: str) -> None:
    """Raise InputError if the output would take the place of a file of the input."""
    folder, name = split_uri(target)
    output = join_uri(open_store(folder).uri, name)
    if output in [join_uri(file.folder, file.key) for file in job.files]:
        raise InputError(f"-o {target} is among the files of --data: give another name")


def _make_job(store: Store, chosen: Chosen, request: PredictRequest) -> PredictJob:
    uses_gpu = chosen.folder.record.use_gpu
    return PredictJob(
        uri=store.uri,
        run=chosen.folder.name,
        trial=chosen.checkpoint.trial,
        commit=chosen.checkpoint.name,
        key="",
        files=tuple(list_files(request.data)) if request.data is not None else (),
        columns=request.columns,
        keep=request.keep,
        batch_size=request.batch_size,
        allow=request.allow,
        accelerator="gpu" if uses_gpu else "cpu",
        kind=_kind(request.target),
        code=os.environ.get(user_code.CODE, ""),
    )


def _plan(job: PredictJob, request: PredictRequest) -> list[Part]:
    """Divide the rows: the same request on the same data gives the same parts."""
    if not job.files:
        with closing(Predictor(replace(job, accelerator="cpu"))) as predictor:
            return list(plan_loaders(predictor.loaders, request.part_rows))
    parts: list[Part] = []
    with temporary_folder("count") as tmp:
        for source, file in enumerate(job.files):
            ranges = split_rows(count_rows(file, Path(tmp)), request.part_rows, job.batch_size)
            parts += [Part(len(parts) + at, source, *one) for at, one in enumerate(ranges)]
    return parts


def _make_key(job: PredictJob, parts: Sequence[Part], target: str, code: str) -> str:
    """Return the name of the folder of this prediction's parts: another for other data, commits, code or files."""
    folder, name = split_uri(target)
    about = [asdict(job), [asdict(part) for part in parts], open_store(folder).uri, name, code]
    return hashlib.sha256(to_json(about)).hexdigest()[:16]


def _digest_code(chosen: Chosen) -> str:
    """Return the SHA-256, in hex, of the user's files that are imported with the modules of a run file."""
    lightning_cli.import_user_code(chosen.config)
    named = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    files = sorted(Path(file) for file in named if is_user_file(file) and Path(file).is_file())
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _run(job: PredictJob, parts: list[Part], chosen: Chosen, workers: int | None) -> Iterator[int]:
    """Predict these parts; yield the number of rows of each as it is committed."""
    if not parts:
        return
    few = len(parts) < MANY_PARTS if workers is None else workers == 1
    if few and job.accelerator == "cpu" and cluster.is_local():
        with closing(Predictor(job)) as predictor:
            yield from map(predictor.predict, parts)
        return
    with cluster.connected():
        if job.accelerator == "gpu" and not cluster.has_gpus(1):  # a run of a cluster, on a laptop
            job = replace(job, accelerator="cpu")
        yield from _run_on_ray(job, parts, chosen, workers)


def _run_on_ray(job: PredictJob, parts: list[Part], chosen: Chosen, workers: int | None) -> Iterator[int]:
    """Predict with Ray Data, in as many processes as the cluster has CPUs or GPUs for; one that dies is replaced."""
    import ray.data
    from ray.exceptions import RayError

    gpus = 1 if job.accelerator == "gpu" else 0
    scaling = chosen.config.scaling
    room = cluster.max_resources().get("GPU" if gpus else "CPU", 1)
    size = max(min(workers or int(room), int(room), len(parts)), 1)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    items = [{**asdict(part), "stop": -1 if part.stop is None else part.stop} for part in parts]
    predicted = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        PartWorker,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=size),
        num_cpus=1,
        num_gpus=gpus,
        **({"accelerator_type": scaling.accelerator_type} if gpus and scaling.accelerator_type else {}),
    )
    try:
        for answer in predicted.iter_rows():
            raise_error(answer)
            yield int(answer["rows"])
    except RayError as error:
        raise root_cause(error) from error


def _assemble(folder: Store, parts: Sequence[Part], target: str) -> int:
    """Write the file from all parts, in their order; it is there whole or not at all. Return its number of rows."""
    where, name = split_uri(target)
    with temporary_folder("assemble") as tmp:
        path, files = Path(tmp, "predictions"), [Path(tmp, part.key) for part in parts]
        for file in files:
            folder.get_file(file.name, file)
        rows = write_file(files, path, _kind(target))
        open_store(where).put_file(name, path)
    return rows
