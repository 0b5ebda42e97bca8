"""Count the requests, bytes and memory of what must not grow: 1,000 runs, 1,000 trials, 10,000 epochs.

Nothing is trained: runs are made, by the records' own code. Times are those of a real S3 server on this machine
(SeaweedFS, from the extra [dev]); what is too much for a disk is read from a store in memory. Each row is measured in a
process of its own. The exit code is 1 if a limit is passed.

    python bench/scale.py [--runs 1000] [--trials 1000] [--epochs 10000]
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.run_samples import sweep_config  # noqa: E402
from tests.s3 import BUCKET, running_server  # noqa: E402
from trainer_app import results  # noqa: E402
from trainer_app.errors import NotFoundError  # noqa: E402
from trainer_app.records import RunFolder, RunRecord, TrialRecord, trial_name  # noqa: E402
from trainer_app.records.folder import PART_LINES  # noqa: E402
from trainer_app.records.manifest import Manifest  # noqa: E402
from trainer_app.storage import Entry, Store, open_store  # noqa: E402
from trainer_app.storage.parallel import map_parallel  # noqa: E402

PAGE = 1000  # keys of one answer to a listing
MAKE = "make"
S3_EPOCHS = 10  # of each trial on the real server
EPOCHS = 100  # that its sweep asks for


@dataclass
class Traffic:
    """What was asked of a store: HTTP requests, or what they would be, and the bytes of the answers."""

    requests: int = 0
    received: int = 0


@dataclass
class MadeStore:
    """Objects in memory; many keys may have the same bytes. Only what a reader asks for."""

    objects: dict[str, bytes] = field(default_factory=dict)
    prefix: str = ""
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def uri(self) -> str:
        return f"memory/{self.prefix}"

    def child(self, prefix: str) -> "MadeStore":
        return MadeStore(self.objects, f"{self.prefix}{prefix}/", self.traffic)

    def put(self, key: str, data: bytes, *, create: bool = False) -> None:
        self.objects[self.prefix + key] = data

    def get(self, key: str, *, start: int = 0) -> bytes:
        self.traffic.requests += 1
        if self.prefix + key not in self.objects:
            raise NotFoundError(key)
        data = self.objects[self.prefix + key][start:]
        self.traffic.received += len(data)
        return data

    def list(self, prefix: str = "") -> Iterator[Entry]:
        full = f"{self.prefix}{prefix}/" if prefix else self.prefix
        found = [Entry(key[len(full) :], len(data), 0.0) for key, data in self.objects.items() if key.startswith(full)]
        self._note_pages(len(found))
        return iter(sorted(found, key=lambda entry: entry.key))

    def list_folders(self, prefix: str = "") -> Sequence[str]:
        full = f"{self.prefix}{prefix}/" if prefix else self.prefix
        inner = (key[len(full) :].partition("/") for key in self.objects if key.startswith(full))
        found = sorted({name for name, slash, _ in inner if slash})
        self._note_pages(len(found))
        return found

    def _note_pages(self, count: int) -> None:
        self.traffic.requests += max(1, -(-count // PAGE))
        self.traffic.received += 400 * count


# --- makers


def lines(epochs: int) -> list[bytes]:
    """The parts of metrics of one attempt."""
    one = (
        '{{"epoch":{0},"step":{1},"time":1.7e9,"elapsed":{0}.5,"metrics":{{"loss":{2},"acc":0.5,"train_loss":1.25}}}}\n'
    )
    text = [one.format(number, 10 * number, 1.0 + 1.0 / (1 + number)).encode() for number in range(epochs)]
    return [b"".join(text[at : at + PART_LINES]) for at in range(0, epochs, PART_LINES)]


def put_commit(store: Any, epochs: int) -> None:
    """A checkpoint of 10 bytes after so many epochs, with its manifest."""
    name = f"a0001-e{epochs:06d}-s{10 * epochs:09d}"
    about = {"epochs": epochs, "step": 10 * epochs, "attempt": 1, "world_size": 1, "time": 7.0, "name": name}
    objects = {"checkpoint.ckpt": {"size": 10, "sha256": "0" * 64}}
    manifest = Manifest.model_validate({**about, "metrics": {"loss": 1.0 + 1.0 / epochs}, "objects": objects})
    store.put(f"checkpoints/{name}/checkpoint.ckpt", b"." * 10)
    store.put(f"checkpoints/{name}/manifest.json", manifest.to_json())


def make_runs(storage: Any, count: int) -> None:
    """Train runs; every second one was killed while it ran."""

    def make(number: int) -> None:
        state: Any = {"state": "succeeded", "done": 5, "best": 0.5} if number % 2 else {"state": "running"}
        record = RunRecord(name=f"run-{number:05d}", task="train", metric="loss", mode="min", epochs=5, **state)
        storage.put(f"{record.name}/run.json", record.to_json())
        storage.put(f"{record.name}/metrics/a0001-0000.jsonl", b"".join(lines(5)))

    for _ in map_parallel(make, range(count)):
        pass


def seen(epochs: int) -> dict[str, Any]:
    """What schedulers put into the record of such a trial."""
    from trainer_app.tuning import history, schedulers

    results = [(number + 1, 1.0 + 1.0 / (1 + number)) for number in range(epochs)]
    built = [schedulers.build(sweep_config(kind, epochs=EPOCHS), epochs=EPOCHS) for kind in ("asha", "median")]
    return {key: value for one in built for key, value in history.seen_by(one, results).items()}


def make_sweep(storage: Any, trials: int, epochs: int, *, name: str = "sweep", seen: Any = None) -> None:
    """A sweep whose trials have finished, with the metrics and two checkpoints of each; the run was killed.

    Args:
        seen: what the trials' records have for schedulers; nothing in those of earlier versions.
    """
    record = RunRecord(name=name, task="tune", metric="loss", mode="min", epochs=epochs, num_samples=10**6)
    storage.put(f"{name}/run.json", record.to_json())
    parts, value = lines(epochs), 1.0 + 1.0 / epochs

    def make(index: int) -> None:
        trial = trial_name(index)
        store = storage.child(f"{name}/trials/{trial}")
        for number, part in enumerate(parts):
            store.put(f"metrics/a0001-{number:04d}.jsonl", part)
        for done in (epochs - 1, epochs):
            put_commit(store, done)
        about: Any = {
            "epochs": epochs,
            "metrics": {"loss": value},
            "best": value,
            "best_epoch": epochs - 1,
            "ended": 9.0,
            "seen": seen or {},
        }
        params = {"model.init_args.lr": 0.5}
        store.put(
            "trial.json", TrialRecord(trial=trial, index=index, params=params, state="finished", **about).to_json()
        )

    for _ in map_parallel(make, range(trials)):
        pass


# --- what is measured, each in a process of its own: (the store, its traffic) -> what came out


def count_http(traffic: Traffic) -> None:
    """Count what boto3 sends and receives in this process."""
    from botocore.httpsession import URLLib3Session

    send = URLLib3Session.send

    def counted(session: Any, request: Any) -> Any:
        traffic.requests += 1
        answer = send(session, request)
        traffic.received += int(answer.headers.get("Content-Length") or 0)
        return answer

    URLLib3Session.send = counted


def measure_list(uri: str, traffic: Traffic, size: argparse.Namespace) -> tuple[float, str]:
    began = time.monotonic()
    runs = results.list_runs(f"{uri}/runs")
    return time.monotonic() - began, f"{len(runs)} runs"


def resume(run: str, scheduler: str, searcher: str = "random") -> Any:
    """Return what measures the resume of a sweep."""

    def measure_resume(uri: str, traffic: Traffic, size: argparse.Namespace) -> Any:
        from trainer_app.tuning import schedulers
        from trainer_app.tuning.plan import plan_search

        config = sweep_config(scheduler, searcher, epochs=EPOCHS, num_samples=10**6)
        began = time.monotonic()
        folder = RunFolder.open(open_store(f"{uri}/sweeps"), run)
        records = {record.trial: record for record in folder.read_trials()}
        planned = plan_search(config, folder, records, schedulers.build(config, epochs=EPOCHS), concurrency=2)
        return time.monotonic() - began, f"the next is {trial_name(planned.start)}"

    return measure_resume


def measure_end(uri: str, traffic: Traffic, size: argparse.Namespace) -> tuple[float, str]:
    store = MadeStore(traffic=traffic)
    make_sweep(store, size.trials, size.epochs)
    traffic.requests = traffic.received = 0
    began = time.monotonic()
    outcome = results.read_outcome(cast(Store, store), "sweep")
    return time.monotonic() - began, f"{outcome.done} trials, best {outcome.best and outcome.best.value:.4g}"


def measure_newest(uri: str, traffic: Traffic, size: argparse.Namespace) -> tuple[float, str]:
    from trainer_app.records import FitFolder
    from trainer_app.run.attempt import commit_position

    store = MadeStore(traffic=traffic)
    for number in range(size.epochs):
        put_commit(store, number + 1)
    began = time.monotonic()
    position = commit_position(FitFolder(cast(Store, store)))
    return time.monotonic() - began, f"epoch {position['epochs']}"


def measure_logs(uri: str, traffic: Traffic, size: argparse.Namespace) -> tuple[float, str]:
    """Ten more looks at 50 MB of 10 workers' logs, one of which has one more line each time."""
    from trainer_app.launch import stored_logs
    from trainer_app.launch.location import RunLocation
    from trainer_app.launch.remote_run import RemoteRun

    store = MadeStore(traffic=traffic)
    vars(stored_logs)["POLL_S"] = 0.0
    text = (b"x" * 99 + b"\n") * 50_000
    for number in range(10):
        store.put(f"logs/worker-{number}/out.000.log", text)
    shown: list[str] = []
    tail = stored_logs.LogTail(RunLocation("demo", "memory", "", "", ""), shown.append, workers=True)
    tail.remote_run = RemoteRun(cast(Store, store), "demo")
    tail.read()
    shown.clear()
    traffic.requests = traffic.received = 0
    began = time.monotonic()
    for number in range(10):
        store.put("logs/worker-3/out.000.log", text + b"one more\n" * (number + 1))
        tail.read()
    return time.monotonic() - began, f"{len(shown)} lines"


@dataclass(frozen=True)
class Limit:
    """What a row may take; None is no limit. `requests` per run or trial, and beside them."""

    each: float = 0.0
    beside: int = 0
    seconds: float | None = None
    megabytes: float | None = None  # of memory, of the whole process


ROWS = {
    "list": ("`list` of {runs} runs, half of them killed", measure_list, Limit(1, 100, 3.0)),
    "fifo": ("resume of {trials} trials, no scheduler", resume("sweep", "fifo"), Limit(1, 100, 10.0)),
    "optuna": ("resume of {trials} trials, Optuna", resume("sweep", "fifo", "optuna"), Limit(1, 100, 10.0)),
    "asha": ("resume of {trials} trials, ASHA", resume("sweep", "asha"), Limit(1, 100, 10.0)),
    "median": ("resume of {trials} trials, median stopping", resume("sweep", "median"), Limit(1, 100, 10.0)),
    "old": (
        "resume of {trials} trials, ASHA, records that lack what it saw",
        resume("old", "asha"),
        Limit(3, 100, 10.0),
    ),
    "end": ("end of a sweep of {trials} trials of {epochs} epochs", measure_end, Limit(1, 100, None, 500.0)),
    "newest": ("newest of {epochs} checkpoints", measure_newest, Limit(0, 100)),
    "logs": ("ten looks at 50 MB of stored logs", measure_logs, Limit(0, 20)),
}


def measure(name: str, uri: str, size: argparse.Namespace) -> None:
    """Measure one row in this process, and print it as JSON."""
    traffic = Traffic()
    count_http(traffic)
    seconds, said = ROWS[name][1](uri, traffic, size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "result": said, "peak": peak, **vars(traffic)}))


def problems(name: str, row: dict[str, Any], size: argparse.Namespace) -> list[str]:
    """What of a row is beyond its limit."""
    limit = ROWS[name][2]
    most = limit.each * (size.runs if name == "list" else size.trials) + limit.beside
    pairs = (("requests", most), ("seconds", limit.seconds), ("peak", limit.megabytes))
    return [f"{what} {row[what]:.0f} > {top:g}" for what, top in pairs if top is not None and row[what] > top]


def make_all(uri: str, size: argparse.Namespace) -> None:
    """Make what the rows read from the real server."""
    make_runs(open_store(f"{uri}/runs"), size.runs)
    make_sweep(open_store(f"{uri}/sweeps"), size.trials, S3_EPOCHS, seen=seen(S3_EPOCHS))
    make_sweep(open_store(f"{uri}/sweeps"), size.trials, S3_EPOCHS, name="old")


def command_of(name: str, uri: str, size: argparse.Namespace) -> list[str]:
    """Return the command that measures a row, or makes what the rows read."""
    sizes = [f"--{key}={value}" for key, value in vars(size).items() if key in ("runs", "trials", "epochs")]
    return [sys.executable, __file__, "--measure", name, "--uri", uri, *sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, count in (("runs", 1000), ("trials", 1000), ("epochs", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--measure", choices=[*ROWS, MAKE], help=argparse.SUPPRESS)
    parser.add_argument("--uri", default="", help=argparse.SUPPRESS)
    size = parser.parse_args()
    if size.measure == MAKE:
        make_all(size.uri, size)
        return 0
    if size.measure:
        measure(size.measure, size.uri, size)
        return 0
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}\n")
    print("| | requests | received | time | peak memory | |\n|---|---|---|---|---|---|")
    passed = True
    with running_server() as server:
        os.environ.update(server.env)
        uri = f"s3://{BUCKET}/scale"
        # In a process of its own: rows would start with its memory as their peak, which is Ray's.
        subprocess.run(command_of(MAKE, uri, size), check=True)
        for name, (title, *_) in ROWS.items():
            done = subprocess.run(command_of(name, uri, size), capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            row = json.loads(done.stdout.splitlines()[-1])
            beyond = problems(name, row, size)
            passed = passed and not beyond
            received = f"{row['received'] / 1e6:.2f} MB"
            cells = [title.format(**vars(size)), f"{row['requests']:,}", received, f"{row['seconds']:.1f} s"]
            print(
                "|", " | ".join([*cells, f"{row['peak']:.0f} MB", "; ".join([row["result"], *beyond])]), "|", flush=True
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
