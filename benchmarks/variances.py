"""Variance of an optimizer's test accuracy due to the search, the seeds and the test images.

    python benchmarks/variances.py docs/results --opt sgd --opt adam --study mnist --study mnist-seed-1 ...

Each study is an independent search from another seed. The variance between the studies' means, beyond what their seeds
explain, is that of tuning; the variance within a study is that of the seeds; p (1 - p) / N is that of the test images.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from optstudy.records.naming import RowKey
from optstudy.report.archive import read_archive
from optstudy.statistics import variance_components


def main() -> int:
    """Print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a report")
    parser.add_argument("--opt", action="append", required=True, help="an optimizer; may be repeated")
    parser.add_argument("--study", action="append", required=True, help="a study; at least two")
    arguments = parser.parse_args()
    archive = read_archive(arguments.folder)
    print(
        "| Optimizer | Means of the searches (%) | Tuning (points) | Seeds (points) | Test images (points) |"
    )
    print("|:--|:--|--:|--:|--:|")
    for optimizer in arguments.opt:
        groups = [
            [
                one.run.test_accuracy
                for one in archive.runs
                if one.run.id.row == RowKey(study, optimizer, "best")
            ]
            for study in arguments.study
        ]
        between, within = variance_components(groups)
        means = [float(np.mean(group)) for group in groups]
        images = max(len(one.predictions.labels) for one in archive.runs if one.predictions)
        mean = float(np.mean(means))
        spreads = math.sqrt(between), math.sqrt(within), math.sqrt(mean * (1 - mean) / images)
        shown = ", ".join(f"{100 * value:.2f}" for value in means)
        print(f"| {optimizer} | {shown} | " + " | ".join(f"{100 * spread:.2f}" for spread in spreads) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
