"""The Ray that a run uses, as far as it is settled before one is started."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from ray._private.utils import validate_socket_filepath

from trainer_app.errors import InputError, TrainerError
from trainer_app.run import cluster

pytestmark = pytest.mark.unit


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment, and an import path, that are put back afterwards."""
    environ = {"PATH": os.environ["PATH"]}
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return environ


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the cluster has."""

    def give(**resources: float) -> None:
        monkeypatch.setattr(cluster, "max_resources", lambda: resources)

    return give


ALL = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
PASSED: dict[str, Any] = {"runtime_env": {"env_vars": {}}}
LOCAL = {"address": "local", "include_dashboard": False, "resources": {cluster.TRIAL_DRIVER: 1000}}


@pytest.mark.parametrize(
    "environ, arguments",
    [
        ({}, {**LOCAL, "num_cpus": ALL}),
        ({"RAY_ADDRESS": "local"}, {**LOCAL, "num_cpus": ALL}),
        ({"RAY_ADDRESS": ""}, {**LOCAL, "num_cpus": ALL}),
        ({"TRAINER_NUM_CPUS": "4"}, {**LOCAL, "num_cpus": 4}),
        ({"TRAINER_NUM_CPUS": ""}, {**LOCAL, "num_cpus": ALL}),
        ({"RAY_ADDRESS": "local", "TRAINER_NUM_CPUS": "16"}, {**LOCAL, "num_cpus": 16}),
        ({"RAY_ADDRESS": "auto"}, {"address": "auto", **PASSED}),
        ({"RAY_ADDRESS": "ray://head:10001"}, {"address": "ray://head:10001", **PASSED}),
        ({"RAY_ADDRESS": "10.0.0.1:6379", "TRAINER_NUM_CPUS": "4"}, {"address": "10.0.0.1:6379", **PASSED}),
        ({"RAY_ADDRESS": "auto", "TRAINER_NUM_CPUS": "four"}, {"address": "auto", **PASSED}),
    ],
)
def test_arguments_of_init(environ: dict[str, str], arguments: dict[str, Any]) -> None:
    assert cluster.init_arguments(environ) == arguments


def test_a_clusters_processes_get_what_was_prepared() -> None:
    """Nothing else of the environment: a runtime_env is shown on the dashboard."""
    environ = {"RAY_ADDRESS": "auto", "PYTHONPATH": "/code", "AWS_SECRET_ACCESS_KEY": "canary", **cluster.ENVIRONMENT}
    passed = cluster.init_arguments(environ)["runtime_env"]["env_vars"]
    assert passed == {"PYTHONPATH": "/code", **cluster.ENVIRONMENT}


@pytest.mark.parametrize("given", ["four", "2.5", "4 CPUs", "-1", "0"])
def test_a_bad_number_of_cpus_is_named(given: str) -> None:
    with pytest.raises(InputError, match=rf"TRAINER_NUM_CPUS must be .*{given!r}") as refused:
        cluster.init_arguments({"TRAINER_NUM_CPUS": given})
    assert refused.value.exit_code == 2


def test_what_the_user_has_set_stays(environment: dict[str, str]) -> None:
    environment["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "9"
    environment["RAY_CHDIR_TO_TRIAL_DIR"] = "1"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    cluster.prepare_environment()
    assert environment["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "9"
    assert environment["RAY_CHDIR_TO_TRIAL_DIR"] == "1"
    rest = {k: v for k, v in cluster.ENVIRONMENT.items() if environment[k] != v}
    assert rest.keys() == {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "RAY_CHDIR_TO_TRIAL_DIR"}
    assert "PYTHONDONTWRITEBYTECODE" not in environment  # Ray's processes would compile everything again


def test_workers_import_from_the_working_directory(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment["PYTHONPATH"] = f"/a{os.pathsep}/b"
    cluster.prepare_environment()
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "/a", "/b"]
    assert sys.path[0] == str(tmp_path)
    before = list(sys.path)
    cluster.prepare_environment()
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "/a", "/b"] and sys.path == before


@pytest.mark.parametrize(
    "gpus, needed, enough", [(0, 1, False), (1, 1, True), (2, 1, True), (1, 2, False), (4, 4, True), (4, 0, False)]
)
def test_gpus_are_counted(has: Any, gpus: float, needed: float, enough: bool) -> None:
    has(CPU=8.0, **({"GPU": float(gpus)} if gpus else {}))
    assert cluster.has_gpus(needed) is enough


@pytest.mark.parametrize(
    "wanted, count",
    [
        ({"CPU": 1.0}, 8),
        ({"CPU": 8.0, "GPU": 2.0}, 1),
        ({"GPU": 0.5}, 4),
        ({}, 99),
        ({"TPU": 0.0}, 3),
        ({cluster.TRIAL_DRIVER: 1.0}, 50),
        ({"CPU": 0.1}, 80),
        ({"disk": 0.28}, 25),  # 0.28 * 25 is 7.000000000000001 in floating point
    ],
)
def test_what_fits_is_let_through(has: Any, wanted: dict[str, float], count: int) -> None:
    has(CPU=8.0, GPU=2.0, disk=7.0)
    cluster.check_feasible(wanted, count, "the workers need")


@pytest.mark.parametrize(
    "wanted, count, said",
    [
        ({"CPU": 1.0}, 9, "the workers need 9 CPU at once but this Ray has 8"),
        ({"CPU": 1.0, "GPU": 1.0}, 3, "the workers need 3 GPU at once but this Ray has 2"),
        ({"CPU": 2.5}, 4, "the workers need 10 CPU at once but this Ray has 8"),
        ({"TPU": 1.0}, 1, "the workers need 1 TPU at once but this Ray has 0"),
        ({"GPU": 0.5}, 5, "the workers need 2.5 GPU at once but this Ray has 2"),
    ],
)
def test_what_can_never_fit_is_refused_with_both_numbers(
    has: Any, wanted: dict[str, float], count: int, said: str
) -> None:
    has(CPU=8.0, GPU=2.0)
    with pytest.raises(InputError) as refused:
        cluster.check_feasible(wanted, count, "the workers need")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_stated_resources_come_before_rays(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With autoscaling Ray shows the minimum only: the chart states the pools' maxima."""
    ray = types.SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0, "memory": 5e9})
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert cluster.max_resources() == {"CPU": 2.0, "memory": 5e9}
    environment["TRAINER_CLUSTER_RESOURCES"] = '{"CPU": 64, "GPU": 8}'
    assert cluster.max_resources() == {"CPU": 64.0, "GPU": 8.0}
    assert cluster.has_gpus(8) and not cluster.has_gpus(9)
    environment["TRAINER_CLUSTER_RESOURCES"] = ""
    assert "GPU" not in cluster.max_resources()


@pytest.mark.parametrize("stated", ["64 CPUs", "[1]", '{"CPU": "many"}', '{"CPU": null}'])
def test_resources_that_can_not_be_read_are_named(environment: dict[str, str], stated: str) -> None:
    environment["TRAINER_CLUSTER_RESOURCES"] = stated
    with pytest.raises(InputError, match="TRAINER_CLUSTER_RESOURCES"):
        cluster.max_resources()


class FakeRay(types.ModuleType):
    """Ray's entry points, without processes."""

    def __init__(self, *, running: bool) -> None:
        super().__init__("ray")
        self.running = running
        self.calls: list[Any] = []

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **arguments: Any) -> None:
        self.calls.append(arguments)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.mark.parametrize("failing", [False, True])
def test_a_ray_that_was_started_here_is_stopped(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    fake = FakeRay(running=False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    environment["TRAINER_NUM_CPUS"] = "3"
    try:
        with cluster.connected():
            assert len(fake.calls) == 1
            if failing:
                raise ValueError
    except ValueError:
        assert failing
    started, stopped = fake.calls
    assert started["num_cpus"] == 3 and started["address"] == "local" and stopped == "shutdown"
    assert environment["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"


def test_a_cluster_watches_for_preemption(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(running=False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    environment["RAY_ADDRESS"] = "auto"
    with cluster.connected():
        assert fake.calls[0]["address"] == "auto"
    assert "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER" not in environment


def test_a_ray_that_is_there_is_left_alone(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(running=True)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with cluster.connected():
        assert fake.calls == []
    assert fake.calls == []


def test_rays_files_are_elsewhere_if_tmpdir_is_too_long(tmp_path: Path) -> None:
    """Case 26: batch systems set a TMPDIR of 120 characters, and Ray's sockets end at 107 bytes."""
    assert cluster.ray_folder({}) == {} == cluster.ray_folder({"TMPDIR": "/var/tmp"})
    short = cluster.ray_folder({"TMPDIR": "/scratch/" + "x" * 111})["_temp_dir"]
    assert Path(short).stat().st_mode & 0o777 == 0o700
    validate_socket_filepath(f"{short}/session_2026-11-28_19-40-00_123456_{os.getpid()}/sockets/plasma_store")
    assert cluster.ray_folder({"RAY_TMPDIR": "/r", "TMPDIR": "/scratch/" + "x" * 111}) == {}
    fits = cluster.init_arguments({"TMPDIR": "/scratch/" + "x" * 111})
    assert fits["_temp_dir"] == short


def test_the_longest_tmpdir_that_fits_is_left() -> None:
    length = next(n for n in range(107, 0, -1) if not cluster.ray_folder({"TMPDIR": "/" + "x" * n}))
    session = f"/ray/session_2026-11-28_19-40-00_123456_{os.getpid()}/sockets/plasma_store"
    validate_socket_filepath("/" + "x" * length + session)


def test_a_tmpdir_without_a_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_app.machine.make_private_folder", lambda _: False)
    with pytest.raises(
        InputError, match=r"^TMPDIR=/xxx+ is too long for Ray's sockets, .* set TMPDIR to a folder of at most \d\d "
    ):
        cluster.ray_folder({"TMPDIR": "/" + "x" * 120})


def test_a_machine_too_slow_for_ray_is_told_in_a_line(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FakeRay):
        def init(self, **arguments: Any) -> None:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setitem(sys.modules, "ray", Slow(running=False))
    with pytest.raises(
        TrainerError, match=r"^Ray did not start on this machine: .* timed out .*; if it is busy, "
    ) as raised:
        cluster.connected().__enter__()
    assert "\n" not in str(raised.value) and raised.value.exit_code == 1
