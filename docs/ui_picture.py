"""Write docs/ui.png: the list of `trainer ui` with the runs of `report_pictures`, in Chromium.

make screenshots
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from docs.report_pictures import BEGAN, make_run, make_sweep, open_browser, save
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
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
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
        with background(storage, index, Access(host="127.0.0.1")) as address:
            page = browser.new_page(viewport={"width": 1200, "height": 330}, timezone_id="UTC")
            page.goto(address)
            page.wait_for_selector("tbody tr")
            save(page.screenshot(), "ui")
    return 0


if __name__ == "__main__":
    sys.exit(main())
