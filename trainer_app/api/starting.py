"""Start runs: here in a process of their own, or on a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer_app.api.run import ClusterSide, Run
from trainer_app.errors import InputError, RunFailedError
from trainer_app.run.request import RunRequest, prepare_run

Item = str | Path
Values = Mapping[str, Any]
COMMAND = (sys.executable, "-m", "trainer_app")
_INTERRUPTED = 130


def train(*files: Item, **options: Any) -> Run:
    """Train the model of a run file and return the run when it has ended. Arguments, errors: as for `tune`."""
    return _start("train", files, **options)


def tune(*files: Item, **options: Any) -> Run:
    """Search the space of a run file for its best trial and return the run when it has ended.

    It runs in a process of its own, as `trainer tune` would: modules that were edited since are imported anew, and
    nothing of Ray stays in this process. Ctrl-C ends it as in a terminal.

    Args:
        files: run files, merged in order, and overrides KEY=VALUE.
        options: `overrides`: a mapping of dotted keys to values; `name`, `storage`, `resume`, `test`, `allow` (a
            list), `import_from` (a list): as the command's options; `show`: called with each line of progress, `print`
            by default.

    Raises:
        ConfigError: the run file's problems, all of them; nothing was started.
        InputError: a name, or a file that is missing; nothing was started.
        RunFailedError: the run failed; with its error.
    """
    return _start("tune", files, **options)


def validate(*files: Item, overrides: Values | None = None, task: str = "train") -> None:
    """Check run files as `trainer validate` does, without importing their code. Raises ConfigError, InputError."""
    prepare_run(RunRequest(task, _items(files, overrides)), env={})


def _items(files: Sequence[Item], overrides: Values | None) -> list[str]:
    return [*map(str, files), *(f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items())]


def _start(
    task: str,
    files: Sequence[Item],
    *,
    overrides: Values | None = None,
    name: str | None = None,
    storage: str | Path | None = None,
    resume: str | Path | None = None,
    test: bool = False,
    allow: Sequence[str] = (),
    import_from: Sequence[Item] = (),
    show: Callable[[str], Any] = print,
) -> Run:
    items, uri = _items(files, overrides), None if storage is None else str(storage)
    folders, resumed = [str(folder) for folder in import_from], None if resume is None else str(resume)
    prepared = prepare_run(RunRequest(task, items, name, resumed, uri, allow, folders))
    command = [task, *items, "--resume" if prepared.resume else "--name", prepared.name]
    command += ["--storage", prepared.config.storage.uri, *(["--test"] if test else [])]
    command += [word for one in allow for word in ("--allow", one)]
    command += [word for one in folders for word in ("--import-from", one)]
    code, errors = _run_command(command, show)
    run = Run(prepared.config.storage.uri, prepared.name)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code == InputError.exit_code:
        raise InputError(errors)
    if code:
        run.check()  # the error that the run recorded
        raise RunFailedError(errors)
    return run


def _run_command(arguments: Sequence[str], show: Callable[[str], Any]) -> tuple[int, str]:
    """Run a command of `trainer`; return its exit code and what it says on stderr of the error."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C reaches it from here alone: a notebook's may not, a terminal's would twice
    ) as process:
        errors: list[str] = []
        try:
            for line in process.stdout or ():
                show(line.rstrip("\n"))
                errors += [line.removeprefix("error: ").strip()] if line.startswith("error: ") else []
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # it commits nothing more, and ends Ray
            for line in process.stdout or ():
                show(line.rstrip("\n"))
            raise
    return code, "; ".join(errors) or f"trainer {arguments[0]} ended with exit code {code}"


def submit(task: str, *files: Item, values: Sequence[Item] = (), namespace: str | None = None, **options: Any) -> Run:
    """Create the objects of a new run on a Kubernetes cluster, as `trainer submit` does, and return it.

    Args:
        task: train or tune.
        files: run files, merged in order, and overrides KEY=VALUE.
        values: files of the cluster's values, or names such as kind.
        namespace: of the run; None for the kubeconfig's.
        options: `overrides`: a mapping of dotted keys to values; `sets`, `include`: lists; `name`, `context`,
            `endpoint`, `code`, `image`: as the command's options; `env`: a mapping of variables; `show`: called with
            each line about what is done, `print` by default.

    Raises:
        TrainerError: the run file, the chart, the cluster or the storage refuses it; nothing was created.
    """
    return _submit(task, files, [str(file) for file in values], namespace, **options)


def _submit(
    task: str,
    files: Sequence[Item],
    values: Sequence[str],
    namespace: str | None,
    *,
    overrides: Values | None = None,
    sets: Sequence[str] = (),
    name: str | None = None,
    context: str | None = None,
    endpoint: str | None = None,
    code: Item | None = None,
    include: Sequence[str] = (),
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    show: Callable[[str], Any] = print,
) -> Run:
    from trainer_app.launch import submit as launch
    from trainer_app.launch.kube import connect
    from trainer_app.launch.location import location_of
    from trainer_app.launch.pack import pack
    from trainer_app.launch.release import new_release

    packed = pack(code, include) if code is not None else None
    kube, request = connect(namespace, context), RunRequest(task, _items(files, overrides), name)
    about: dict[str, Any] = {"image": image, "code": packed.digest if packed else "", "user": kube.user(), "env": env}
    release = new_release(request, values, sets, kube.namespace, **about)
    launch.submit(kube, release, packed, say=show, endpoint=endpoint)
    where = location_of(kube.get("RayJob", release.name))
    return Run(where.uri, release.name, ClusterSide(kube, endpoint))
