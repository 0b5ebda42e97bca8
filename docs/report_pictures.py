"""Write docs/report-*.png: pages of made-up runs in Chromium, and a selection among the trials of a sweep.

    make screenshots

The runs are made by formulas, not trained; everything else is as in `trainer report`.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name
from trainer_app.records.manifest import Manifest
from trainer_app.report import render_page, report_document
from trainer_app.storage import Store, open_store

DOCS: Final = Path(__file__).parent
BEGAN: Final = 1_764_547_200.0  # 2025-12-01
EPOCHS: Final = 27
RUNGS: Final = (1, 3, 9)
METRIC: Final = "val/accuracy"
RUN_FILE: Final = """
model: {{class_path: vision.Classifier, init_args: {{lr: {lr}, width: 64}}}}
data: {{class_path: vision.Images, init_args: {{batch_size: 64}}}}
trainer: {{max_epochs: 27}}
"""
SPACE: Final = """
tune:
  metric: val/accuracy
  mode: max
  scheduler: {asha: {max_t: 27, grace_period: 1, reduction_factor: 3}}
  space: {model.init_args.lr: {loguniform: [1.0e-5, 1.0e-1]}}
"""
ABOUT: Final[dict[str, Any]] = {"metric": METRIC, "mode": "max", "seed": 7, "created": BEGAN, "state": "succeeded"}
BRUSH: Final = """trainerReport.charts.find((one) => one.name.startsWith("Parallel")).instance.dispatchAction(
    {type: "axisAreaSelect", parallelAxisId: "axis0", intervals: [[0.0006, 0.006]]})"""
VERSIONS: Final = {"torch": "2.14.1", "lightning": "2.6.6", "ray": "2.60.0"}


def write_epochs(
    folder: RunFolder, trial: str | None, epochs: range, top: float, *, start: float, attempt: int
) -> float:
    """Write the metrics of one attempt, whose accuracy tends to `top`; return the best."""
    draw, best, fit = random.Random(f"{trial} {attempt}"), 0.0, folder.fit_folder(trial)
    for epoch in epochs:
        accuracy = top * (1 - 0.8 * math.exp(-(epoch + 1) / 5)) + draw.gauss(0, 0.006)
        loss = 2.3 * math.exp(-epoch / 6) + (1 - top)
        metrics = {METRIC: accuracy, "val/loss": loss + 0.004 * epoch, "train/loss": loss * 0.9 + draw.gauss(0, 0.01)}
        metrics |= {"lr": 1e-3 * 0.9**epoch, "samples_per_s": 2400 + draw.gauss(0, 40)}
        time = start + 9.0 * (epoch - epochs.start + 1)
        fit.append_epoch(
            attempt,
            {"epoch": epoch, "step": 100 * (epoch + 1), "time": time, "elapsed": 9.0 * (epoch + 1), "metrics": metrics},
        )
        best = max(best, accuracy)
    return best


def make_run(storage: Store, name: str, lr: float, top: float) -> None:
    """A train run that lost its worker in epoch 12, and trained two epochs twice."""
    record = RunRecord(
        name=name, task="train", epochs=EPOCHS, attempt=1, updated=BEGAN + 330, versions=VERSIONS, **ABOUT
    )
    folder = RunFolder.create(storage, record, RUN_FILE.format(lr=lr))
    write_epochs(folder, None, range(12), top, start=BEGAN + 20, attempt=1)
    write_epochs(folder, None, range(10, EPOCHS), top, start=BEGAN + 160, attempt=2)
    for epochs, time in ((25, BEGAN + 295), (27, BEGAN + 313)):
        name = f"a0002-e{epochs:06d}-s{100 * epochs:09d}"
        about = {"epochs": epochs, "step": 100 * epochs, "attempt": 2, "world_size": 1, "time": time, "name": name}
        objects = {"checkpoint.ckpt": {"size": 4096, "sha256": "0" * 64}}
        store = folder.fit_folder().checkpoints.child(name)
        store.put("checkpoint.ckpt", b"." * 4096)
        manifest = Manifest.model_validate({**about, "metrics": {METRIC: top - 0.01}, "objects": objects})
        store.put("manifest.json", manifest.to_json())


def make_sweep(storage: Store, trials: int = 120) -> None:
    """A sweep under ASHA whose best learning rate is near 0.002."""
    draw = random.Random(3)
    record = RunRecord(
        name="sweep", task="tune", epochs=EPOCHS, num_samples=trials, updated=BEGAN + 3600, versions=VERSIONS, **ABOUT
    )
    folder = RunFolder.create(storage, record, RUN_FILE.format(lr=0.001) + SPACE)
    for index in range(trials):
        name, start = trial_name(index), BEGAN + 30 + 110 * (index // 4)
        params: dict[str, Any] = {
            "lr": 10 ** draw.uniform(-5, -1),
            "width": draw.choice([32, 64, 128]),
            "dropout": draw.uniform(0, 0.5),
        }
        params |= {"activation": draw.choice(["relu", "gelu"])}
        top = (
            0.95
            - 0.07 * (math.log10(params["lr"]) + 2.7) ** 2
            - 0.3 * (params["dropout"] - 0.2) ** 2
            + params["width"] / 8000
        )
        epochs = next((rung for rung in RUNGS if draw.random() > max(0.05, top - 0.25)), EPOCHS)
        best = write_epochs(folder, name, range(epochs), max(0.1, top), start=start, attempt=1)
        ended = {"state": "finished", "reason": "reached max_t"}
        if epochs < EPOCHS:
            ended = {"state": "stopped", "reason": f"asha: {best:.3g} at epoch {epochs} is below the cut-off"}
        keyed = {f"model.init_args.{key}": value for key, value in params.items()}
        times = {"started": start, "ended": start + 9 * epochs + 2}
        folder.write_trial(
            TrialRecord.model_validate(
                {"trial": name, "index": index, "params": keyed, "epochs": epochs, "best": best, **ended, **times}
            )
        )


def render(storage: Store, *names: str) -> str:
    """Return the page of runs as if they were on S3: a picture has no path of this machine."""
    document = json.dumps(report_document([(storage, name) for name in names]))
    return render_page(json.loads(document.replace(storage.uri, "s3://bucket/runs")))


def save(picture: bytes, name: str) -> None:
    """Write a picture with 128 colours: a third of the size."""
    from PIL import Image

    Image.open(BytesIO(picture)).convert("RGB").quantize(128).save(DOCS / f"{name}.png", optimize=True)


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield Debian's Chromium; end the program if it is not installed."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: chromium is not on PATH; install it (Debian, Ubuntu: the package chromium)", file=sys.stderr)
        sys.exit(2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        storage = open_store(folder)
        make_sweep(storage)
        for name, lr, top in (("baseline", 0.001, 0.9), ("higher-rate", 0.003, 0.94)):
            make_run(storage, name, lr, top)
        for picture, names in (("sweep", ("sweep",)), ("run", ("baseline",)), ("compare", ("baseline", "higher-rate"))):
            file = Path(folder) / "page.html"
            file.write_text(render(storage, *names), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1200, "height": 900}, timezone_id="UTC")
            page.goto(file.as_uri())
            page.evaluate("trainerReport.charts.forEach((one) => { one.inView = true; one.refresh(); })")
            page.wait_for_timeout(300)
            save(page.screenshot(full_page=True), f"report-{picture}")
            if picture == "sweep":
                page.evaluate(BRUSH)
                page.locator('[data-chart^="Curves"]').evaluate("(one) => one.closest('.grid').scrollIntoView()")
                page.wait_for_timeout(300)
                save(page.locator(".grid").first.screenshot(), "report-selection")
    return 0


if __name__ == "__main__":
    sys.exit(main())
