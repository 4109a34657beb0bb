"""How much of an optimizer's test accuracy is the luck of the search, of the seed, and of the test images.

    python benchmarks/variances.py docs/results --opt sgd --opt adam --study mnist --study mnist-seed-1 ...

Each study is a search of its own, from another seed. The spread between the studies' means, beyond what their seeds
explain, is that of tuning; the spread inside a study that of the seeds; p (1 - p) / N that of the test images.
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
    parser.add_argument("folder", type=Path, help="of a report")
    parser.add_argument("--opt", action="append", required=True, help="an optimizer; may be repeated")
    parser.add_argument("--study", action="append", required=True, help="a study; at least two")
    given = parser.parse_args()
    archive = read_archive(given.folder)
    print(
        "| Optimizer | Means of the searches (%) | Tuning (points) | Seeds (points) | Test images (points) |"
    )
    print("|:--|:--|--:|--:|--:|")
    for optimizer in given.opt:
        groups = [
            [
                one.run.test_accuracy
                for one in archive.runs
                if one.run.id.row == RowKey(study, optimizer, "best")
            ]
            for study in given.study
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
