"""Put Apache ECharts, the plotting library of `trainer report`, into trainer_app/report/vendor/, and check its hash.

npm downloads the package, with this machine's own settings; nothing of it is run. Without npm a warning is printed, and
`trainer report` can't write a page.

    python image/echarts.py
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "6.1.0"
INTEGRITY = (
    "q0yaFPggC9FUdsWH4blavRWFmxdrIodbkoKNAjJudAI6CA9gNPxHtV2RcZNEepZVlk4yvBYkOkbk6HIVpIyHZA=="  # SHA-512, as npm has it
)
SCRIPT_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"
FILES = ("dist/echarts.min.js", "LICENSE", "NOTICE", "licenses/LICENSE-d3", "package.json")
VENDOR = Path(__file__).resolve().parents[1] / "trainer_app" / "report" / "vendor"


def download() -> bytes:
    """Return the package's archive, as npm gives it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"echarts@{VERSION}", "--silent", "--ignore-scripts", "--pack-destination", folder]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=300)
        return next(Path(folder).glob("*.tgz")).read_bytes()


def is_there() -> bool:
    """Return whether all files are there, and the script is the right one."""
    script = VENDOR / "echarts.min.js"
    whole = all((VENDOR / Path(name).name).is_file() for name in FILES)
    return whole and hashlib.sha256(script.read_bytes()).hexdigest() == SCRIPT_SHA256


def unpack(archive: bytes) -> None:
    """Write the files that are needed. Raises ValueError if the archive is another one."""
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != INTEGRITY:
        raise ValueError(f"the archive of echarts {VERSION} is not the one that {Path(__file__).name} names")
    VENDOR.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        for name in FILES:
            member = package.extractfile(f"package/{name}")
            if member is None:
                raise ValueError(f"echarts {VERSION} has no file {name}")
            (VENDOR / Path(name).name).write_bytes(member.read())


def main() -> int:
    if is_there():
        return 0
    if shutil.which("npm") is None:
        print(
            "warning: npm is not on PATH: trainer report will have no plotting library; install Node.js",
            file=sys.stderr,
        )
        return 1 if os.environ.get("TRAINER_CI") == "required" else 0
    try:
        unpack(download())
    except (OSError, ValueError, KeyError, StopIteration, subprocess.SubprocessError) as error:
        print(f"error: echarts {VERSION}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
