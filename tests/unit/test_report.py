"""The document of `trainer report`, and the page that it is put into, over made-up runs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.run_samples import commit, epoch, train_run, trial, tune_run
from tests.unit.tree import ROOT
from trainer_app.__main__ import main
from trainer_app.errors import NotFoundError
from trainer_app.records import RunFolder, RunRecord, TrialRecord
from trainer_app.report import page, render_page, report_document
from trainer_app.report.clean import clean_text, shorten
from trainer_app.report.curves import thin
from trainer_app.report.importance import importance
from trainer_app.results import read_run
from trainer_app.storage import Store, open_store

pytestmark = pytest.mark.unit
SCHEMA = json.loads((ROOT / "trainer_app/report/schema.json").read_text())
SECRET = "hunter2-and-more"
HOSTILE = "</script><script>alert(1)</script>"
RUN_FILE = """
model: {class_path: m.Net, init_args: {lr: 0.1, api_key: KEY}}
trainer: {max_epochs: 9}
tune:
  metric: val/acc
  mode: max
  scheduler: {asha: {max_t: 9, grace_period: 1, reduction_factor: 3}}
  space: {model.init_args.lr: {loguniform: [0.001, 1.0]}}
"""


@pytest.fixture
def storage(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def document(storage: Store, *names: str) -> dict[str, Any]:
    made = report_document([(storage, name) for name in names])
    jsonschema.validate(made, SCHEMA)
    json.dumps(made, allow_nan=False)
    return made


def described(storage: Store, name: str) -> dict[str, Any]:
    run: dict[str, Any] = document(storage, name)["runs"][0]
    return run


def script(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_train_run_is_described_as_storage_has_it(storage: Store) -> None:
    train_run(storage)
    run, stored = described(storage, "fashion-1"), read_run(storage, "fashion-1")
    (fit,) = run["fits"]
    assert (run["state"], run["target"], run["done"], run["seed"]) == ("running", 5, 3, 42)
    assert run["metrics"] == ["val/acc", "train_loss", "train_loss_step"]
    for name in run["metrics"]:
        curve = fit["curves"][name]
        assert curve["epochs"] is None
        assert curve["values"] == [pytest.approx(line["metrics"][name]) for line in stored.fits[0].history]
    assert stored.best and run["best"]["value"] == stored.best.value == 0.9
    assert [one["value"] for one in run["best_so_far"]] == [0.5, 0.9]
    kept = fit["checkpoints"]
    assert [(one["name"], one["size"]) for one in kept] == [(one.name, one.size) for one in stored.fits[0].checkpoints]
    assert kept[1]["load"] == f'MyModule.load_from_checkpoint("{kept[1]["uri"]}/checkpoint.ckpt")'
    assert run["checkpoint"] == kept[1]["uri"]


def test_a_sweep_is_described_as_storage_has_it(storage: Store) -> None:
    folder = tune_run(storage, state="succeeded")
    folder.write_config(RUN_FILE)
    run = described(storage, "mnist-1")
    assert [(fit["trial"], fit["state"], fit["epochs"]) for fit in run["fits"]] == [
        ("t00000", "stopped", 1),
        ("t00001", "finished", 3),
        ("t00002", "failed", 1),
        ("t00003", "pending", 0),
    ]
    assert [fit["value"] for fit in run["fits"]] == [0.7, 0.95, None, None]
    assert run["fits"][2]["curves"] == {"val/acc": {"epochs": None, "values": ["nan"]}}
    assert run["fits"][2]["reason"] == "ValueError: lr | too\nhigh"
    assert {one["key"]: (one["label"], one["log"]) for one in run["parameters"]} == {
        "model.init_args.lr": ("lr", True),
        "model.init_args.layer_1": ("layer_1", False),
        "data.init_args.size": ("size", False),
    }
    assert [(rung["epochs"], rung["reached"], rung["stopped"]) for rung in run["rungs"]] == [
        (1, 3, 1),
        (3, 1, 0),
        (9, 0, 0),
    ]
    assert run["importance"] == [] and "5 trials" in run["importance_missing"]


def test_attempts_are_a_timeline_with_epochs_done_twice(storage: Store) -> None:
    folder = RunFolder.create(
        storage, RunRecord(name="r", task="train", created=100.0, state="failed", error="OOM"), ""
    )
    folder.update(state="failed", error="OOM")
    for attempt, first in ((1, 0), (2, 1)):
        worker = folder.fit_folder()
        assert worker.take_attempt(0) == attempt
        for number in range(first, first + 2):
            at = 4e9 + 100 * attempt + number  # later than the worker's start, which is now
            worker.append_epoch(
                attempt, {"epoch": number, "time": at, "elapsed": 1.0 + number, "metrics": {"loss": 1.0}}
            )
    (fit,) = described(storage, "r")["fits"]
    first, second = fit["attempts"]
    assert (first["first_epoch"], first["last_epoch"], first["again"]) == (0, 1, [])
    assert (second["first_epoch"], second["last_epoch"], second["again"]) == (1, 2, [1])
    assert second["trained"] == 4e9 + 200.0  # its first epoch ended a second later
    starts = [phase["start"] for phase in fit["phases"]]
    assert starts == sorted(starts) and all(phase["end"] > phase["start"] for phase in fit["phases"])
    reasons = {phase["attempt"]: phase["reason"] for phase in fit["phases"] if phase["reason"]}
    assert "no record says how it ended" in reasons[1] and reasons[2] == "failed: OOM"


def test_a_copied_storage_has_no_attempt_that_starts_after_its_epochs(storage: Store) -> None:
    folder = RunFolder.create(storage, RunRecord(name="r", task="train", created=90.0, updated=200.0), "")
    folder.fit_folder().take_attempt(0)  # now
    epoch(folder.fit_folder(), 0, {"loss": 1.0}, at=100.0)
    (fit,) = described(storage, "r")["fits"]
    assert fit["attempts"][0]["started"] is None
    assert [(phase["phase"], phase["start"]) for phase in fit["phases"]][:2] == [("waiting", 90.0), ("training", 98.5)]


@pytest.mark.parametrize("limit", [10, 60, 600])
def test_thinned_curves_keep_the_extremes_and_the_ends(limit: int) -> None:
    points = [(number, math.sin(number / 30.0)) for number in range(5000)]
    points[1234], points[4321], points[777] = (1234, 9.0), (4321, -9.0), (777, math.nan)
    kept = thin(points, limit)
    assert len(kept) <= limit + 1
    assert {points[0], points[-1], points[1234], points[4321]} <= set(kept)
    assert any(math.isnan(value) for _, value in kept)
    assert [epoch for epoch, _ in kept] == sorted({epoch for epoch, _ in kept})
    assert thin(points[:limit], limit) == points[:limit]


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"botocore: secret_key='{SECRET} x'",
        f'{{"api_key": "{SECRET}"}}',
        f"AWS_SECRET_ACCESS_KEY: {SECRET}",
        f"s3://user:{SECRET}@host/bucket",
        f"GET http://host/x?X-Amz-Signature={SECRET}&y=1",
        f"trainer --api-key {SECRET} x",
        f"Authorization: Bearer {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY----- x",
    ],
)
def test_no_secret_is_in_a_text(text: str) -> None:
    assert SECRET not in clean_text(text)


@pytest.mark.parametrize("key", ["AKIA" + "A1" * 8, "ghp_" + "a" * 36, "hf_" + "b" * 34, "sk-" + "c" * 40])
def test_known_keys_are_no_texts(key: str) -> None:
    assert key not in clean_text(f"403 for {key}, try again") and "try again" in clean_text(f"403 for {key}, try again")


def test_a_text_without_spaces_is_cleaned_in_time_that_grows_with_it() -> None:
    assert len(clean_text("E" * 1_000_000)) < 21_000 and len(clean_text("ab:" * 300_000)) < 21_000


@pytest.mark.parametrize("before, after", [(0, 0), (8_000, 0), (30_000, 300), (300, 30_000), (50_000, 50_000)])
def test_a_secret_is_hidden_wherever_a_long_text_is_cut(before: int, after: int) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + f"{SECRET}\n" * 200 + "-----END PRIVATE KEY-----"
    text = "a line\n" * (before // 7) + key + "\na line" * (after // 7)
    for limit in (500, 3_000, 20_000):
        assert SECRET not in shorten(text, limit)


def test_a_thousand_long_errors_make_no_page_too_large(storage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    folder = tune_run(storage)
    for index in range(4, 1004):
        about = {"state": "failed", "error": "E" * 10_000, "traceback": "T" * 20_000}
        folder.write_trial(TrialRecord.model_validate({"trial": f"t{index:05d}", "index": index, **about}))
    assert len(json.dumps(document(storage, "mnist-1"))) < 6e6


@pytest.mark.parametrize("text", ["lr=0.1 num_tokens=5", "ValueError: tokenizer: bert, size 3", "a = b"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert clean_text(text) == text


def test_no_secret_reaches_the_page(storage: Store) -> None:
    folder = tune_run(storage, error=f"ClientError: password={SECRET}", traceback=f"x\npassword={SECRET}\n")
    folder.write_config(RUN_FILE.replace("KEY", SECRET))
    folder.run_store.put("logs/driver/a0001.000.log", f"line\nexport API_KEY={SECRET}\n\x1b[31mred".encode())
    params = {"model.init_args.api_key": SECRET}
    folder.write_trial(TrialRecord(trial="t00009", index=9, params=params, state="failed", error=f"token: {SECRET}"))
    run = described(storage, "mnist-1")
    assert SECRET not in json.dumps(run)
    assert re.search(r"api_key: '?\*\*\*'?[,}]", run["run_file"])
    assert run["log"]["lines"][-1] == "red"
    assert run["fits"][-1]["params"] == {"model.init_args.api_key": "***"}
    assert SECRET not in render_page(document(storage, "mnist-1"))


@pytest.mark.parametrize("run_file", ["", "model: [", "- 1", "a: &x [*x]", "\x00", "model: " + HOSTILE])
def test_a_run_file_that_is_none_is_shown(storage: Store, run_file: str) -> None:
    train_run(storage).run_store.put("run.yaml", run_file.encode())
    assert described(storage, "fashion-1")["task"] == "train"


def test_names_of_any_kind_stay_text(storage: Store) -> None:
    record = RunRecord(name="r", task="tune", metric=HOSTILE, mode="min", error="x" * 100_000)
    folder = RunFolder.create(storage, record, f"model: {{class_path: 'm.N\"{HOSTILE}'}}\n")
    for index, name in enumerate(("t<script>", "-->", "t{a|b}", "'\"&amp;")):
        epoch(folder.fit_folder(name), 0, {HOSTILE: math.inf, "a/b/../c": -math.inf, "\x1b[31mred\u202e": math.nan})
        commit(folder.fit_folder(name), 1, {HOSTILE: 1.0})
        folder.write_trial(TrialRecord(trial=name, index=index, params={HOSTILE: HOSTILE, "x": [1, {"y": None}]}))
    made = document(storage, "r")
    run, text = made["runs"][0], render_page(made)
    assert len(run["error"]) < 21_000 and "80000 characters are left out" in run["error"]
    assert [fit["curves"][HOSTILE]["values"] for fit in run["fits"]] == [["inf"]] * 4
    assert "red" in run["metrics"] and run["parameters"][1]["values"] == ['[1, {"y": null}]']
    assert text.count("<script") == 3 and text.count("</script") == 3
    embedded = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(embedded[0]) == made


def test_a_damaged_run_is_described_as_damaged(storage: Store) -> None:
    train_run(storage, "good")
    bad = train_run(storage, "bad").run_store
    bad.put("run.json", b"{")
    bad.put("run.yaml", RUN_FILE.encode())
    assert "made again" in described(storage, "bad")["problems"][0]
    bad.put("run.yaml", b"[")
    made = document(storage, "good", "bad")
    assert [run["problem"] is None for run in made["runs"]] == [True, False]
    assert "run.json is damaged" in made["runs"][1]["problem"]
    assert [row["state"] for row in made["comparison"]["fits"]] == ["running", "damaged"]
    with pytest.raises(NotFoundError, match="good"):
        document(storage, "goof")


def test_damaged_objects_are_problems(storage: Store) -> None:
    folder = tune_run(storage)
    folder.run_store.put("trials/t00001/trial.json", b"{")
    folder.run_store.put("trials/t00000/metrics/a0001-0000.jsonl", b'{"epoch": -1}\n')
    run = described(storage, "mnist-1")
    assert len(run["problems"]) == 2 and len(run["fits"]) == 4
    render_page(document(storage, "mnist-1"))


def test_several_runs_differ_in_what_their_files_say(storage: Store) -> None:
    for name, lr, value in (("a", 0.1, 0.5), ("b", 0.2, 0.7)):
        folder = RunFolder.create(
            storage, RunRecord(name=name, task="train", metric="acc"), f"model: {{lr: {lr}}}\nx: 1\n"
        )
        epoch(folder.fit_folder(), 0, {"acc": value})
    made = document(storage, "a", "b")
    assert made["differences"] == [{"key": "model.lr", "values": ["0.1", "0.2"]}]
    beside = made["comparison"]
    assert [(row["trial"], row["params"], row["value"]) for row in beside["fits"]] == [
        ("a", {"model.lr": 0.1}, 0.5),
        ("b", {"model.lr": 0.2}, 0.7),
    ]
    assert [row["curves"]["acc"]["values"] for row in beside["fits"]] == [[0.5], [0.7]]
    assert document(storage, "a")["comparison"] is None


PARAMS = [
    {"key": "lr", "kind": "number", "log": True},
    {"key": "act", "kind": "category", "log": False},
    {"key": "same", "kind": "number", "log": False},
]


def rows(count: int) -> list[tuple[dict[str, Any], float]]:
    return [({"lr": 0.001 * (n + 1), "act": ["a", None][n % 2], "same": 1}, float(n)) for n in range(count)]


def test_the_parameter_that_decides_matters_most() -> None:
    shares, missing = importance(rows(40), PARAMS)
    assert missing is None
    assert [share["key"] for share in shares] == ["lr", "act"] and shares[0]["share"] > 0.8
    assert importance(rows(40), PARAMS)[0] == shares  # the same page each time


def test_numbers_that_no_forest_takes_leave_importance_out(storage: Store) -> None:
    folder = RunFolder.create(storage, RunRecord(name="mnist-1", task="tune", metric="val/acc", mode="max"), "")
    for index in range(8):
        trial(folder, index, [0.05 * index], state="finished")
        params = {"x": 10.0 ** (90 - 20 * index), "huge": 10**400 + index, "nan": [math.nan, 1.0][index % 2]}
        folder.write_trial(TrialRecord(trial=f"t{index:05d}", index=index, params=params, state="finished"))
    run = described(storage, "mnist-1")
    assert [one["kind"] for one in run["parameters"]] == ["number", "category", "category"]
    assert run["importance"] == [] and "optuna can't say" in run["importance_missing"]
    render_page(document(storage, "mnist-1"))


def test_without_optuna_importance_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_app.report.importance.find_spec", lambda name: None)
    shares, missing = importance(rows(40), PARAMS)
    assert shares == [] and "trainer-app[train]" in str(missing)


def test_the_contour_of_a_sweep_is_between_its_values(storage: Store) -> None:
    folder = tune_run(storage)
    for index in range(4, 12):
        trial(folder, index, [0.05 * index], state="finished")
    contour = described(storage, "mnist-1")["contour"]
    cells = [value for row in contour["values"] for value in row]
    assert {contour["x"], contour["y"]} == {"model.init_args.lr", "model.init_args.layer_1"}
    assert len(cells) == 24 * 24 and 0.2 <= min(cells) < max(cells) <= 0.95


def test_the_policy_of_the_page_allows_its_own_scripts_and_nothing_else(storage: Store) -> None:
    train_run(storage)
    text = render_page(document(storage, "fashion-1"))
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    library, own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"].split() == [script(own), script(library)]
    assert rules["style-src"] == script(re.findall(r"<style>(.*?)</style>", text, re.DOTALL)[0])
    assert "unsafe" not in policy
    assert not re.findall(r"<(?:link|img|script|iframe)[^>]+(?:src|href)=(?!\"data:)", text.replace(library, ""))


def test_the_library_is_the_package_s_with_its_licence() -> None:
    vendor = ROOT / "trainer_app/report/vendor"
    assert "Apache License" in (vendor / "LICENSE").read_text()
    pinned = re.findall(r'SCRIPT_SHA256 = "(\w+)"', (ROOT / "image/echarts.py").read_text())[0]
    assert hashlib.sha256((vendor / "echarts.min.js").read_bytes()).hexdigest() == pinned


def test_the_script_makes_no_element_of_a_text() -> None:
    own = page._read("page.js")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|XMLHttp|WebSocket", own)
    assert (
        own.count("fetch(") == own.count("await fetch(live,") == 1
    )  # of `trainer ui`; a file's policy has no connect-src


def test_the_verb_writes_a_file_or_prints_the_document(
    storage: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(storage)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--storage", "runs"]) == 0
    assert "fashion-1.html" in capsys.readouterr().out
    assert (tmp_path / "fashion-1.html").read_text().startswith("<!doctype html>")
    assert main(["report", "runs/fashion-1", "--json"]) == 0
    jsonschema.validate(json.loads(capsys.readouterr().out), SCHEMA)
    assert main(["report", "runs/fashion-1", "-o", "no/such/folder.html"]) == 2
    assert "give a file that you can write" in capsys.readouterr().err
    assert main(["report", "runs/fashion-2"]) == 2
