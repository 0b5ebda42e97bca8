"""A Ray job that tests or predicts with a run of the storage: that run's file, values and image, another command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from trainer_app.config import loads
from trainer_app.errors import InputError
from trainer_app.launch import helm, location, manifests, submit, submitted
from trainer_app.launch.kube import Kube, Object
from trainer_app.launch.pack import CodeArchive
from trainer_app.launch.release import make_plan, run_file_text
from trainer_app.launch.remote_run import RUN_FILE, RemoteRun
from trainer_app.records import check_name, generate_name, to_json
from trainer_app.run.request import RunRequest, prepare_run, split_items
from trainer_app.storage_uri import is_s3_uri

TASKS: Final = ("test", "predict")
_SAFE: Final = re.compile(r"[A-Za-z0-9_./:=,@%+~-]+")  # two shells read the command: nothing in it may need quotes


@dataclass(frozen=True)
class AfterRequest:
    """What is asked for: a task on a run.

    Args:
        task: test or predict. run: the run's name.
        items: run files and overrides, if the cluster does not have the run's own.
        arguments: of the verb in the pod.
        name: of the new job; None makes one.
    """

    task: str
    run: str
    items: tuple[str, ...]
    arguments: tuple[str, ...]
    name: str | None = None


def read_request(task: str, words: Sequence[str], name: str | None) -> AfterRequest:
    """Read `RUN [FILE...] [KEY=VALUE...] [OPTIONS of the verb]`.

    Raises:
        InputError: no run is named, or an argument can't be used in a pod.
    """
    first_option = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    names, arguments = words[:first_option], words[first_option:]
    if not names:
        raise InputError(f"no run: write trainer submit {task} RUN -- and the options of trainer {task}")
    for word in arguments:
        if not _SAFE.fullmatch(word):
            raise InputError(f"{word!r} can't be an argument in a pod: it may have letters, digits and _./:=,@%+~-")
    return AfterRequest(task, check_name(names[0]), tuple(names[1:]), tuple(arguments), name and check_name(name))


def check_options(task: str, options: Mapping[str, Any]) -> None:
    """Check the options of the verb in the pod, by name.

    Raises:
        InputError: one names a file of this machine, or a prediction has no output.
    """
    if options["run"]:
        raise InputError(f"{options['run']}: the run comes before --, and the options of trainer {task} after it")
    for name in ("data", "output"):
        path = options.get(name)
        if path and not (is_s3_uri(path) or path.startswith("/")):
            raise InputError(f"--{name} {path}: a pod has no files of this machine; give an S3 URI, or a volume's path")
    if task == "predict" and not options["output"]:
        raise InputError("predict in a pod needs -o FILE: an S3 URI, or a path on a volume")


@contextmanager
def after_release(
    kube: Kube,
    request: AfterRequest,
    values: Sequence[str],
    sets: Sequence[str],
    *,
    image: str | None = None,
    code: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[helm.Release]:
    """Yield the release of the job: of a FILE and the user's values, or of what the user submitted the run with.

    Args:
        values, sets: as the options --values and --set; over those of the run.
        image, code: in place of the run's.
        env: environment variables of its pods.

    Raises:
        InputError: the run is not this user's in the cluster, and no FILE is given.
    """
    name = request.name or generate_name(f"{request.task}-{request.run}")
    with TemporaryDirectory(prefix="trainer-") as folder:
        base = _of_files(request) if request.items else _of_cluster(kube, request, Path(folder, "values.yaml"))
        release = replace(base, name=name, task=request.task, submission=submit.make_submission(name))
        yield replace(
            release,
            namespace=kube.namespace,
            user=kube.user(),
            values=(*release.values, *values),
            sets=tuple(sets),
            image=image or release.image,
            code=code or release.code,
            env=dict(env or {}),
            arguments=(request.run, *request.arguments),
        )


def _of_files(request: AfterRequest) -> helm.Release:
    """Return a release of the user's run files."""
    config = prepare_run(RunRequest("train", request.items, request.run), env={}).config
    text = run_file_text(config, *split_items(request.items))
    return helm.Release("", "", "", text, "", plan=make_plan(config, "train"))


def _of_cluster(kube: Kube, request: AfterRequest, file: Path) -> helm.Release:
    """Return a release of what the user submitted the run with; its values are written to `file`."""
    launch, text, values = _submission(kube, request.run)
    file.write_bytes(to_json(values))
    plan = make_plan(loads(text, file=f"{request.run}/{RUN_FILE}"), "train")
    return helm.Release("", "", "", text, "", (str(file),), image=launch.image, code=launch.code, plan=plan)


def _submission(kube: Kube, run: str) -> Any:
    found = submitted.read(kube, run)
    if found is None:
        raise InputError(
            f"the cluster has no record that you submitted run {run}; give its run file, and its values with -f: "
            f"trainer submit test {run} FILE -f VALUES"
        )
    return found


def create(
    kube: Kube, run: str, release: helm.Release, packed: CodeArchive | None, *, say: submit.Say, endpoint: str | None
) -> None:
    """Create the objects of the job, and put the user's code into the folder of the run that it is about.

    Raises:
        TrainerError: the chart, the cluster or the storage refuses it; nothing was created.
    """
    objects = manifests.load_objects(helm.template(release))
    submit.check_secret(kube, objects)
    submit.check_admission(kube, objects, say)
    if packed:
        _put_code(kube, run, objects, packed, endpoint)
    submit.create_objects(kube, objects)


def _put_code(kube: Kube, run: str, objects: Sequence[Object], packed: CodeArchive, endpoint: str | None) -> None:
    where = location.location_of_objects(objects)
    if not is_s3_uri(where.uri):
        raise InputError(f"--code needs S3, and this run's storage is a volume ({where.uri}); build it into an --image")
    with location.storage_access(kube, where, endpoint):
        RemoteRun.open(where.uri, run).put_code(packed.digest, packed.data)
