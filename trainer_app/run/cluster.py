"""The Ray cluster that a run uses: the one that RAY_ADDRESS names, or one that is started on this machine."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from trainer_app import machine, shadowing, temporary
from trainer_app.errors import InputError, TrainerError
from trainer_app.run import working_folder
from trainer_app.user_errors import describe_error

TRIAL_DRIVER = "trial_driver"
ACCELERATOR = "accelerator_type:"  # Ray's prefix of the resource that says which kind of GPU a node has
FOLDERS = "TRAINER_FOLDERS"  # of the run files, for this process and what it records

# Read by Ray when it is imported, and by every process that it starts on this machine.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the controller's poll; a no-op fit takes 7-9 s instead of 11-13 s
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a run file mean what they mean in the shell
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run's own records replace Tune's CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the command line's
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's pickled snapshots are never read
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # a stopped trial may end its Trainer before its actor is given up
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports its error, and no objective
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "JSONARGPARSE_DEPRECATION_WARNINGS": "off",  # Lightning 2.6.6 uses what jsonargparse 4.49 deprecated
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PL_DISABLE_FORK": "1",  # as Tune sets it: Lightning must not fork a process of Ray's (ray issue 28197)
}


@contextmanager
def connected(local: Mapping[str, str] | None = None, meanwhile: Sequence[str] = ()) -> Iterator[None]:
    """Connect to Ray, and stop it at the end if it was started here.

    Args:
        local: environment variables for a Ray that is started here, besides this process's own.
        meanwhile: modules to import while Ray starts; none of them may import Ray.

    Raises:
        InputError: as `init_arguments`. TrainerError: a Ray of this machine does not start.
    """
    prepare_environment()
    import ray

    if meanwhile:
        threading.Thread(target=_import, args=(meanwhile,), daemon=True).start()
    if ray.is_initialized():
        yield
        return
    arguments = init_arguments(os.environ)
    if arguments["address"] == "local":
        # no node of a laptop is drained: one process less to start for each Train run
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    else:
        local = None
    with machine.temporary_environment(local or {}):
        _start(arguments)
    try:
        yield
    finally:
        ray.shutdown()
        temporary.remove_folders()


def _start(arguments: Mapping[str, Any]) -> None:
    """Call ray.init. Raises TrainerError if a Ray of this machine does not start: Ray waits 30 s for its processes."""
    import ray

    try:
        ray.init(**arguments, namespace="trainer", log_to_driver=True)
    except Exception as error:
        if arguments["address"] != "local":
            raise
        remedy = "if it is busy, or short of memory or disk, try again later; or set RAY_ADDRESS to a Ray that runs"
        raise TrainerError(f"Ray did not start on this machine: {describe_error(error)}; {remedy}") from error


def _import(modules: Sequence[str]) -> None:
    with suppress(Exception):  # what is wrong with a module is said where it is needed
        for module in modules:
            import_module(module)


def prepare_environment(folders: Sequence[str] = ()) -> None:
    """Set what Ray's processes inherit, and let them import from `folders` of run files; what the user set stays."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # If nothing may write byte code, every Ray process compiles everything again: ray.init 18 s against 7 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if folders:
        os.environ[FOLDERS] = os.pathsep.join(folders)
    paths = [str(Path.cwd()), *run_folders()]
    shadowing.check_folders(paths)
    machine.prepend_python_path(*paths)
    sys.path[:0] = [p for p in paths if p not in sys.path]


def run_folders() -> list[str]:
    """Return the folders of the run files that this process was started with."""
    return [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def init_arguments(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments for ray.init: RAY_ADDRESS if set, else a local Ray with TRAINER_NUM_CPUS (default: all) CPUs.

    Raises:
        InputError: TRAINER_NUM_CPUS is not a number of CPUs, or TMPDIR is too long, see `ray_folder`.
    """
    address = environ.get("RAY_ADDRESS") or "local"
    if address != "local":
        passed = {k: environ[k] for k in (*ENVIRONMENT, "PYTHONPATH") if k in environ}
        return {"address": address, "runtime_env": {"env_vars": passed}}
    wanted = environ.get("TRAINER_NUM_CPUS")
    if wanted and not (wanted.isdecimal() and int(wanted) > 0):
        raise InputError(f"TRAINER_NUM_CPUS must be an integer number of CPUs, 1 or more, not {wanted!r}")
    all_of_them = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    # A trial that starts workers of its own waits for them: it takes this instead of a CPU that they need.
    return {
        "address": "local",
        "num_cpus": int(wanted) if wanted else all_of_them,
        "include_dashboard": False,
        "resources": {TRIAL_DRIVER: 1000},
        **ray_folder(environ),
    }


def is_local() -> bool:
    """Whether Ray's processes are this machine's own, started for this command in the user's working directory."""
    return (os.environ.get("RAY_ADDRESS") or "local") == "local" and working_folder.ROOT not in os.environ


def ray_folder(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the argument that puts Ray's files below /tmp if the paths of its sockets would be too long elsewhere.

    Raises:
        InputError: they would, and the folder in /tmp is not private to this user.
    """
    name = "RAY_TMPDIR" if environ.get("RAY_TMPDIR") else "TMPDIR"
    folder, longest = environ.get(name) or "/tmp", 103 if sys.platform == "darwin" else 107
    session = f"/ray/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    if len(os.fsencode(folder + session)) <= longest:
        return {}
    short = Path("/tmp", f"trainer-{os.getuid()}")
    with suppress(OSError):
        if machine.make_private_folder(short):
            return {"_temp_dir": str(short)}
    raise InputError(
        f"{name}={folder} is too long for Ray's sockets, and {short} is not a folder that only this user can write: "
        f"set {name} to a folder of at most {longest - len(session)} characters"
    )


def max_resources() -> dict[str, float]:
    """Return what the cluster can have at most: TRAINER_CLUSTER_RESOURCES, the chart's pools, else what Ray has now.

    Raises:
        InputError: the variable is not a JSON object {name: amount}.
    """
    stated = os.environ.get("TRAINER_CLUSTER_RESOURCES")
    if stated:
        try:
            return {str(k): float(v) for k, v in json.loads(stated).items()}
        except (ValueError, TypeError, AttributeError) as e:
            wanted = 'a JSON object of amounts, such as {"CPU": 8, "GPU": 2}'
            raise InputError(f"TRAINER_CLUSTER_RESOURCES must be {wanted}, not {stated!r}") from e
    import ray

    return {k: float(v) for k, v in ray.cluster_resources().items()}


def has_gpus(needed: float) -> bool:
    """Return whether the cluster has that many GPUs. Ray knows; the driver's own CUDA says nothing of workers."""
    return max_resources().get("GPU", 0.0) >= needed > 0


def check_feasible(wanted: Mapping[str, float], count: int, what: str) -> None:
    """Refuse what this cluster can never have.

    Args:
        wanted: {resource: amount} of one worker or trial.
        count: how many of them run at once.
        what: the beginning of the message, such as "a trial needs".

    Raises:
        InputError: for the first resource of which there is too little, with both amounts.
    """
    have = max_resources()
    stated = bool(os.environ.get("TRAINER_CLUSTER_RESOURCES"))  # amounts of CPU and GPU, not the kinds of the latter
    for name, each in wanted.items():
        if stated and name.startswith(ACCELERATOR):
            continue
        if each * count > have.get(name, 0.0) + 1e-9 and name != TRIAL_DRIVER:
            raise InputError(
                f"{what} {each * count:g} {name} at once but this Ray has {have.get(name, 0.0):g}; "
                "ask for less in scaling, or give it more (a local Ray: TRAINER_NUM_CPUS)"
            )


def missing_resources(wanted: Mapping[str, float], count: int, what: str) -> str:
    """Return which resources this Ray does not have now, in words; "" if it has all of them.

    Args:
        wanted, count, what: as for `check_feasible`.
    """
    import ray

    have = ray.cluster_resources()
    short = [
        f"{each * count:g} {name} at once and this Ray has {have.get(name, 0.0):g}"
        for name, each in wanted.items()
        if each * count > have.get(name, 0.0) + 1e-9 and name != TRIAL_DRIVER
    ]
    return f"{what} {'; '.join(short)} now: do its pods get scheduled?" if short else ""


def scratch_folder(run: str) -> str:
    """Make a folder for Ray's own files of one attempt, among the machine's temporary files."""
    return str(temporary.make_folder(run))


def same_node_options() -> dict[str, Any]:
    """Return options of an actor that serves this process: it reserves nothing, and runs on this process's node.

    Ray puts an actor without resources on any node, even in a worker's pod: the run would lose it with that pod.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}
