"""Start runs: here in a process of their own, or on a cluster."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer_app.api.arguments import Item, Values, to_items, to_list
from trainer_app.api.run import ClusterSide, Run
from trainer_app.errors import InputError, RunFailedError, StorageError
from trainer_app.run.request import RunRequest, prepare_run

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
            by default, None for nobody.

    Raises:
        ConfigError: the run file's problems, all of them; nothing was started.
        InputError: a name, or a file that is missing; nothing was started.
        RunFailedError: the run failed; with its error.
    """
    return _start("tune", files, **options)


def validate(*files: Item, overrides: Values | None = None, task: str = "train") -> None:
    """Check run files as `trainer validate` does, without importing their code. Raises ConfigError, InputError."""
    if task not in ("train", "tune"):
        raise InputError(f"validate: task {task!r}; allowed: train, tune")
    prepare_run(RunRequest(task, to_items(files, overrides)), env={})


def _start(
    task: str,
    files: Sequence[Item],
    *,
    overrides: Values | None = None,
    name: str | None = None,
    storage: str | Path | None = None,
    resume: str | Path | None = None,
    test: bool = False,
    allow: str | Sequence[str] = (),
    import_from: Item | Sequence[Item] = (),
    show: Callable[[str], Any] | None = print,
) -> Run:
    items, allow, folders = to_items(files, overrides), to_list(allow), to_list(import_from)
    named, resumed, uri = (None if one is None else str(one) for one in (name, resume, storage))
    prepared = prepare_run(RunRequest(task, items, named, resumed, uri, allow, folders))
    command = [task, *items, "--resume" if prepared.resume else "--name", prepared.name]
    command += ["--storage", prepared.config.storage.uri, *(["--test"] if test else [])]
    command += [word for one in allow for word in ("--allow", one)]
    command += [word for one in folders for word in ("--import-from", one)]
    code, errors = _run_command(command, show or (lambda line: None))
    run = Run(prepared.config.storage.uri, prepared.name)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code == InputError.exit_code:
        raise InputError(errors)
    if code:
        with suppress(StorageError):  # it has recorded nothing
            run.check()
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
        except BaseException:  # Ctrl-C, or an error of `show`
            process.send_signal(signal.SIGINT)  # it commits nothing more, and ends Ray
            for line in process.stdout or ():
                with suppress(Exception):
                    show(line.rstrip("\n"))
            raise
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return code, "; ".join(errors) or f"trainer {arguments[0]} {how}"


def submit(
    task: str, *files: Item, values: Item | Sequence[Item] = (), namespace: str | None = None, **options: Any
) -> Run:
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
    return _submit(task, files, to_list(values), namespace, **options)


def _submit(
    task: str,
    files: Sequence[Item],
    values: Sequence[str],
    namespace: str | None,
    *,
    overrides: Values | None = None,
    sets: str | Sequence[str] = (),
    name: str | None = None,
    context: str | None = None,
    endpoint: str | None = None,
    code: Item | None = None,
    include: str | Sequence[str] = (),
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    show: Callable[[str], Any] = print,
) -> Run:
    from trainer_app.launch import submit as launch
    from trainer_app.launch.kube import connect
    from trainer_app.launch.location import location_of
    from trainer_app.launch.pack import pack
    from trainer_app.launch.release import new_release

    packed = pack(code, to_list(include)) if code is not None else None
    kube, request = connect(namespace, context), RunRequest(task, to_items(files, overrides), name)
    about: dict[str, Any] = {"image": image, "code": packed.digest if packed else "", "user": kube.user(), "env": env}
    release = new_release(request, values, to_list(sets), kube.namespace, **about)
    launch.submit(kube, release, packed, say=show, endpoint=endpoint)
    where = location_of(kube.get("RayJob", release.name))
    return Run(where.uri, release.name, ClusterSide(kube, endpoint))
