"""Compare `trainer tune` with the code of Ray's guide: the same ten configurations, images and epochs.

The document is Ray's guide "Using PyTorch Lightning with Tune"; document_sweep.py has its code. `trainer tune` runs the
example's run file. The run file's seed draws the ten configurations, and each is trained for five epochs. With --asha
both sides stop trials early, as the guide does, and which ones varies. The sides take turns, each time in a fresh
process, `trainer tune` with an empty data cache. Other work on the machine makes both slower: see `load`.

    python bench/sweep_vs_document.py [--data digits|FOLDER] [--asha] [--rounds 3] [--json FILE]
"""

import argparse
import gzip
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RUN_FILE = ROOT / "trainer_app/examples/mnist/tune.yaml"
DOCUMENT = ROOT / "bench/document_sweep.py"
PARAMETERS = {  # ours -> the document's
    "model.init_args.layer_1": "layer_1_size",
    "model.init_args.layer_2": "layer_2_size",
    "model.init_args.lr": "lr",
    "data.init_args.batch_size": "batch_size",
}
EXPECTED = 4.0


class BenchError(Exception):
    """A sweep that failed or trained something else."""


@dataclass(frozen=True)
class Sweep:
    """One side's sweep: wall is seconds from the start of the process to its end, best the validation accuracy."""

    side: str
    wall: float
    epochs: int
    best: float
    configs: list[dict[str, Any]]


def write_idx(path: Path, values: np.ndarray) -> None:
    head = (0x0800 + values.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def write_images(data: str, root: Path) -> None:
    """Write the images where torchvision's MNIST and the example's data module both look: ROOT/MNIST/raw, unpacked."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    if data == "digits":
        from trainer_app.examples.data.digits import read_digits

        digits = read_digits()
        write_idx(raw / "train-images-idx3-ubyte", digits.train_images)
        write_idx(raw / "train-labels-idx1-ubyte", digits.train_labels)
        write_idx(raw / "t10k-images-idx3-ubyte", digits.test_images)
        write_idx(raw / "t10k-labels-idx1-ubyte", digits.test_labels)
        return
    packed = sorted(Path(data).glob("*-ubyte*"))
    if len(packed) != 4:
        raise BenchError(f"--data {data}: expected MNIST's four IDX files there, packed or not, found {len(packed)}")
    for path in packed:
        content = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)


def run_timed(command: list[str], work: Path, *, seconds: float, **env: str) -> tuple[float, str]:
    """Run a command in its own session and return its seconds and standard output. Raises BenchError."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS")}
    clean |= {"RAY_TMPDIR": str(work), "TRAINER_CACHE": str(work / "cache"), **env}
    start = time.monotonic()
    with open(work / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=work, env=clean, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BenchError(f"{command[:4]}: not done in {seconds:.0f} s") from None
    if process.returncode != 0:
        tail = (work / "log").read_text()[-2000:]
        raise BenchError(f"{command[:4]}: exit code {process.returncode}\n{printed[-2000:]}\n{tail}")
    return time.monotonic() - start, printed


def run_ours(data: Path, work: Path, *, seconds: float, asha: bool) -> Sweep:
    command = [sys.executable, "-m", "trainer_app", "tune", str(RUN_FILE), f"data.init_args.source={data}", "--json"]
    command += [] if asha else ["tune.scheduler={fifo: {}}"]
    wall, printed = run_timed(command, work, seconds=seconds, TRAINER_STORAGE_URI=str(work / "runs"))
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    params = {e["trial"]: e["params"] for e in events if e["event"] == "trial"}
    end = next(e for e in events if e["event"] == "end")
    configs = [{theirs: params[t][key] for key, theirs in PARAMETERS.items()} for t in sorted(params)]
    epochs = sum(e["event"] == "epoch" for e in events)
    return Sweep("trainer tune", wall, epochs, end["best"]["value"], configs)


def run_document(data: Path, work: Path, configs: list[dict[str, Any]], *, seconds: float, asha: bool) -> Sweep:
    given = json.dumps({"configs": configs, "out": str(work / "out.json"), "asha": asha})
    wall, _ = run_timed([sys.executable, str(DOCUMENT), given], work, seconds=seconds, DOCUMENT_DATA=str(data))
    trials = json.loads((work / "out.json").read_text())["trials"]
    if failed := [trial["error"] for trial in trials if trial["error"]]:
        raise BenchError(f"the document's sweep: {len(failed)} trials failed, the first with {failed[0]}")
    best = max(trial["best"] for trial in trials)
    return Sweep("the document", wall, sum(t["epochs"] for t in trials), best, [t["config"] for t in trials])


def config_key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def check_same(sweep: Sweep, configs: list[dict[str, Any]]) -> Sweep:
    if sorted(map(config_key, sweep.configs)) != sorted(map(config_key, configs)):
        raise BenchError(f"{sweep.side} trained other configurations: {sweep.configs}, not {configs}")
    return sweep


def measure(data: Path, work: Path, *, rounds: int, seconds: float, asha: bool) -> list[Sweep]:
    """Run both sides in turns, after one sweep of `trainer tune` that draws the configurations and is not counted."""

    def fresh(name: str) -> Path:
        folder = work / name
        folder.mkdir()
        return folder

    configs = run_ours(data, fresh("w"), seconds=seconds, asha=True).configs
    sweeps = []
    for i in range(rounds):
        sides = (
            lambda at: run_ours(data, at, seconds=seconds, asha=asha),
            lambda at: run_document(data, at, configs, seconds=seconds, asha=asha),
        )
        for j, side in enumerate(sides if i % 2 else sides[::-1]):
            sweep = check_same(side(fresh(f"{i}{j}")), configs)
            sweeps.append(sweep)
            print(
                f"{sweep.side:<14} {sweep.wall:7.1f} s  {sweep.epochs:3} epochs  best accuracy {sweep.best:.4f}"
                f"  load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    return sweeps


def summarise(sweeps: list[Sweep], data: str, *, asha: bool) -> dict[str, Any]:
    sides = {side: [s for s in sweeps if s.side == side] for side in ("trainer tune", "the document")}
    wall = {side: statistics.median(s.wall for s in runs) for side, runs in sides.items()}
    epoch = {side: statistics.median(s.wall / s.epochs for s in runs) for side, runs in sides.items()}
    return {
        "data": data,
        "asha": asha,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "ratio": wall["the document"] / wall["trainer tune"],
        "ratio_per_epoch": epoch["the document"] / epoch["trainer tune"],
        "seconds": wall,
        "configs": sweeps[0].configs,
        "sweeps": [{k: v for k, v in asdict(s).items() if k != "configs"} for s in sweeps],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or a folder with MNIST's IDX files [digits]")
    parser.add_argument("--asha", action="store_true", help="stop trials early, as the document does")
    parser.add_argument("--rounds", type=int, default=3, help="sweeps of each side [3]")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one sweep may take [900]")
    parser.add_argument("--json", help="write everything that was measured here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="b") as folder:  # short: Ray's sockets lie below it
        try:
            write_images(asked.data, Path(folder) / "data")
            limits = {"rounds": asked.rounds, "seconds": asked.timeout}
            sweeps = measure(Path(folder) / "data", Path(folder), **limits, asha=asked.asha)
        except BenchError as e:
            print(f"error: {e}", file=sys.stderr)
            return 1
    summary = summarise(sweeps, asked.data, asha=asked.asha)
    if asked.json:
        Path(asked.json).write_text(json.dumps(summary, indent=1) + "\n")
    print(
        f"wall time, medians: {summary['ratio']:.1f} times as fast; per epoch: {summary['ratio_per_epoch']:.1f} times"
    )
    if summary["ratio"] < EXPECTED:
        print(f"error: less than the {EXPECTED:.0f} times that are promised", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
