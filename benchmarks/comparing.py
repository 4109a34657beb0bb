"""Time `optstudy compare` on 1,000 final runs of 15 epochs in an embedded store, with and without MLflow's part.

python benchmarks/comparing.py                  about a minute, nearly all of it for writing the runs
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from optstudy.records.location import Location
from optstudy.records.metrics import EPOCH, FINAL, Tag
from optstudy.tracking import Tracking, open_existing, open_tracking

OPTIMIZERS = ("sgd", "adagrad", "adam", "adahessian")
EPOCHS, IMAGES = 15, 10_000
MAX_SECONDS, MAX_OWN = 10.0, 1.0
METRICS = [one.name.format(heldout="test") for one in EPOCH[:5]]
LABELS = np.random.default_rng(0).integers(0, 10, IMAGES)


def write_run(tracking: Tracking, optimizer: str, seed: int) -> None:
    """Write a final run as a study would."""
    draw, now = np.random.default_rng([seed, OPTIMIZERS.index(optimizer)]), time.time()
    run = tracking.open_run(
        "big/final",
        f"{optimizer}/seed-{seed}",
        key="",
        tags={Tag.STUDY: "big", Tag.KIND: "final", Tag.MARGIN: "0.001"},
        params={"optimizer": optimizer, "config": "best", "seed": seed, "lr": 0.1},
        started_at=now,
    )
    tracking.log_metrics(run, [(name, 0.9, epoch, now) for epoch in range(EPOCHS) for name in METRICS])
    ends = {"train_accuracy": 99.0, "test_accuracy": 98.9, "seconds": 1.0, "gradient_work": 9.0}
    tracking.log_metrics(run, [(one.name, ends[one.field], 0, now) for one in FINAL if one.field in ends])
    predicted = np.where(draw.random(IMAGES) < 0.99, LABELS, (LABELS + 1) % 10)
    file = io.BytesIO()
    np.savez_compressed(file, labels=LABELS, predicted=predicted)
    records = [dict.fromkeys(METRICS, 0.9) | {"epoch": epoch} for epoch in range(EPOCHS)]
    tracking.log_files(run, {"predictions.npz": file.getvalue(), "epochs.json": json.dumps(records).encode()})
    tracking.close_run(run, "completed")


def own_seconds(folder: Path) -> float:
    """Compare in this process, and return the seconds spent outside of MLflow's calls and imports."""
    from optstudy.comparison import read, table
    from optstudy.tracking.connection import Connection

    table.compare(read.read_studies(open_existing(Location(folder)), ["big"]))  # imports
    mlflow_seconds: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                mlflow_seconds.append(time.perf_counter() - began)

        return call

    # A profiler would overstate the time of Python code.
    with mock.patch.object(Connection, "call", timed(Connection.call)):
        began = time.perf_counter()
        table.compare(read.read_studies(open_existing(Location(folder)), ["big"]))
        return time.perf_counter() - began - sum(mlflow_seconds)


def main() -> int:
    """Write the runs, time the command, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="final runs (default: 1000)")
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        tracking, _ = open_tracking(Location(Path(folder)))
        for index in range(count):
            write_run(tracking, OPTIMIZERS[index % 4], index // 4)
        start = "from optstudy.cli import main; main()"
        command = [sys.executable, "-c", start, "compare", "--study", "big", "--workspace", folder]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # our own command
        seconds, own = time.perf_counter() - began, own_seconds(Path(folder))
    print(f"{count} runs: {seconds:.1f} s for the command, {own:.2f} s of it outside of MLflow and imports")
    for wanted, measured in ((MAX_SECONDS, seconds), (MAX_OWN, own)):
        print(f"{'met    ' if measured < wanted else 'NOT MET'}  under {wanted:g} s: {measured:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
