"""Share of the driver, tracking and checkpoints in the processor time of a study.

python benchmarks/driver.py [--preset quick] [--jobs 2]

The driver's processor time is everything except training: Optuna, MLflow, figures, models, rungs on disk. The workers'
processor time is training, evaluation and their imports. The rest is idle time of the cores.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from optstudy.execution.local import available_cores
from optstudy.study.driver import Study

LIMIT = 0.05


def main() -> None:
    """Run a study in an empty folder, and print the processor time of driver and workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--jobs", type=int, default=available_cores())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study("share", preset=arguments.preset, workspace=Path(folder), jobs=arguments.jobs)
        cpu, wall = time.process_time(), time.monotonic()
        for event in study.run():
            print(f"{time.monotonic() - wall:6.1f} s  {type(event).__name__}", flush=True)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = wall * arguments.jobs
    rows = {"workers": children.ru_utime + children.ru_stime, "driver": cpu}
    rows["idle"] = total - sum(rows.values())
    print(f"\npreset {arguments.preset}, {arguments.jobs} workers on {os.cpu_count()} cores: {wall:.0f} s")
    for name, seconds in rows.items():
        print(f"{name:<8} {seconds:8.1f} core seconds  {seconds / total:6.1%}")
    print(f"driver's share {cpu / total:.1%}, limit {LIMIT:.0%}")
    raise SystemExit(cpu / total > LIMIT)


if __name__ == "__main__":
    main()
