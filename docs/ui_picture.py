"""Write docs/ui.png: the list of `trainer ui` with the runs of `report_pictures`, in Chromium.

make screenshots
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from typing import Any

from docs.report_pictures import BEGAN, DOCS, make_run, make_sweep
from trainer_app.records import RunFolder, RunRecord
from trainer_app.storage import open_store
from trainer_app.ui.access import Access
from trainer_app.ui.index import RunIndex
from trainer_app.ui.serving import background


class Index(RunIndex):
    """The list, without a path of this machine."""

    def page(self, **query: Any) -> dict[str, Any]:
        """Return what the server shows, as if the runs were on S3."""
        return {**super().page(**query), "uri": "s3://bucket/runs"}


def main() -> int:
    from PIL import Image
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: chromium is not on PATH; install it (Debian, Ubuntu: the package chromium)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        storage = open_store(folder)
        make_sweep(storage, trials=6)
        for name, lr, tag in (("baseline", 0.001, "paper"), ("higher-rate", 0.003, "ablation")):
            make_run(storage, name, lr, 0.9)
            RunFolder.open(storage, name).update(tags=[tag], done=27, best=0.9)
        failed = RunRecord(
            name="no-data", task="train", created=BEGAN, updated=BEGAN, state="failed", epochs=27, done=0
        )
        RunFolder.create(storage, failed.model_copy(update={"error": "DataError: no images below data/train"}), "")
        index = Index(storage)
        index.refresh()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        with background(storage, index, Access(host="127.0.0.1")) as address:
            page = browser.new_page(viewport={"width": 1200, "height": 330}, timezone_id="UTC")
            page.goto(address)
            page.wait_for_selector("tbody tr")
            picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    picture.quantize(128).save(DOCS / "ui.png", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
