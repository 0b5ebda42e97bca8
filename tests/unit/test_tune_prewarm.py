"""What the processes of trials get, as far as it is settled before one is started."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from trainer_app.config import RunConfig, loads
from trainer_app.tuning import prewarm

pytestmark = pytest.mark.unit


def config(**blocks: Any) -> RunConfig:
    base: dict[str, Any] = {
        "name": "a",
        "model": {"class_path": "pkg.models.Net"},
        "data": {"class_path": "pkg.data.Images"},
        "tune": {"metric": "m", "mode": "max", "space": {"model.init_args.lr": {"uniform": [0, 1]}}},
    }
    return loads(json.dumps({**base, **blocks}))


def test_they_import_the_trial_and_the_users_code_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert prewarm.prewarm_env(config()) == {
        "RAY_preload_python_modules": "trainer_app.tuning.trial,pkg.models,pkg.data",
        "OMP_NUM_THREADS": "1",
    }
    assert callable(import_module(prewarm.TRIAL).run)


@pytest.mark.parametrize(
    "blocks",
    [
        {"model": {"class_path": "pkg.Net"}, "data": {"class_path": "pkg.Images"}},
        {"model": {"class_path": "pkg.Net"}, "data": None},
    ],
)
def test_a_module_is_imported_once(blocks: dict[str, Any]) -> None:
    assert prewarm.prewarm_env(config(**blocks))["RAY_preload_python_modules"] == "trainer_app.tuning.trial,pkg"


@pytest.mark.parametrize(
    "blocks, threads",
    [
        ({"scaling": {"resources_per_worker": {"CPU": 3}}}, "3"),
        ({"scaling": {"resources_per_worker": {"CPU": 0.5}}}, "1"),
        ({"scaling": {"resources_per_worker": {"GPU": 1}}}, "1"),
    ],
)
def test_a_trial_has_as_many_threads_as_cpus(
    blocks: dict[str, Any], threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert prewarm.prewarm_env(config(**blocks))["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what a user has set stays
    assert prewarm.prewarm_env(config(**blocks))["OMP_NUM_THREADS"] == "7"


def test_nested_trials_have_processes_of_ray_train() -> None:
    assert prewarm.prewarm_env(config(scaling={"num_workers": 2})) == {}


def test_tune_gives_trials_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    for names in (class_cache.ENV_VARS_TO_PROPAGATE, class_cache.DEFAULT_ENV_VARS):
        assert isinstance(names, (set, dict))
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {"AWS_SECRET_ACCESS_KEY"})
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", {"A": "1"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    prewarm.disable_env_propagation()

    class Trial:
        pass

    actor = class_cache._ActorClassCache().get(Trial)
    assert "secret" not in repr(actor._default_options)
    assert not actor._default_options["runtime_env"]
