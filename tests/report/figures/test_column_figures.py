"""Every figure over several rows, for whatever its records have and lack."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from evidence import (
    LONG,
    PAPER,
    bare,
    comparison_of,
    diverged,
    evidence_of,
    runs_of,
    search_result,
    with_run,
)
from matplotlib.figure import Figure

from optstudy.records.evidence import Evidence
from optstudy.report import figures
from optstudy.report.figures import pdf, png
from optstudy.report.figures.style import COLUMN

Check = Callable[[Figure], None]

OVER_ROWS: dict[str, Callable[[Evidence], Figure]] = {
    "gradient_norms": figures.gradient_norms,
    "loss_lines": figures.loss_lines,
    "ratios": figures.ratios,
    "accuracies": lambda found: figures.accuracies(comparison_of(found), found),
    "differences": lambda found: figures.differences(comparison_of(found), margin=0.001),
    "tuning_curves": figures.tuning_curves,
    "learning_rates": figures.learning_rates,
    "flatness": lambda found: figures.flatness(found, comparison_of(found)),
    "times_to_target": figures.times_to_target,
}
FIRST_ROW: dict[str, Callable[[Evidence], Figure]] = {
    "mean_confusion": lambda found: figures.mean_confusion(next(iter(found.rows().values())), LONG),
    "loss_surface": lambda found: figures.loss_surface(next(iter(found.rows().values())), LONG),
}


def typical() -> Evidence:
    return evidence_of(*runs_of(), searches=[search_result(name) for name in PAPER])


def some_diverged() -> Evidence:
    runs = runs_of(seeds=5)
    lost = [diverged(one, after=3 * one.run.seed) if one.run.seed < 2 else one for one in runs[:5]]
    return evidence_of(*lost, *(diverged(one, after=2) for one in runs[5:10]), *runs[10:])


def without_numbers() -> Evidence:
    """Losses and ratios that are not finite, and losses that do not rise."""
    runs = []
    for one in runs_of(seeds=3):
        assert one.curvature is not None
        assert one.trace is not None
        assert one.run.curvature is not None
        nothing = np.full(41, np.inf)
        found = replace(one.curvature, line=nothing, plane=np.full((41, 41), np.nan))
        if one.run.seed == 1:
            found = replace(one.curvature, line=np.zeros(41), plane=np.zeros((41, 41)))
        steps = len(one.trace.step)
        seen = replace(one.trace, ratio=np.where(np.arange(steps) % 2, np.inf, np.nan))
        ending = replace(one.run.curvature, loss_rise=(np.nan, 0.0, -1.0)[one.run.seed])
        runs.append(with_run(replace(one, curvature=found, trace=seen), curvature=ending))
    return evidence_of(*runs)


def all_equal() -> Evidence:
    """All seeds the same, and right on every image."""
    first = {one.run.optimizer: one for one in runs_of(seeds=1)}
    runs = []
    for one in runs_of(seeds=3):
        same = first[one.run.optimizer]
        assert same.predictions is not None
        right = replace(same.predictions, predicted=same.predictions.labels)
        run = replace(same.run, seed=one.run.seed, run_id=one.run.run_id, test_accuracy=1.0)
        runs.append(replace(same, run=run, predictions=right))
    return evidence_of(*runs)


def two_studies() -> Evidence:
    configs = [
        runs_of(PAPER[:2], 3, config, study=study)
        for study in ("quick", "a-study-with-a-long-name")
        for config in ("best", "paper")
    ]
    searches = [
        search_result(name, study, seed=seed)
        for seed, study in enumerate(("quick", "a-study-with-a-long-name"))
        for name in PAPER
    ]
    return evidence_of(*(one for runs in configs for one in runs), searches=searches)


CASES: dict[str, Callable[[], Evidence]] = {
    "typical": typical,
    "nothing": evidence_of,
    "one run": lambda: evidence_of(*runs_of(["sgd"], 1), searches=[search_result()]),
    "one seed": lambda: evidence_of(*runs_of(seeds=1)),
    "one row": lambda: evidence_of(*runs_of(["adam"], 3)),
    "three rows": lambda: evidence_of(
        *runs_of(PAPER[:3], 3), searches=[search_result(name) for name in PAPER[:3]]
    ),
    "bare": lambda: evidence_of(*map(bare, runs_of(seeds=2))),
    "one bare row": lambda: evidence_of(*map(bare, runs_of(["sgd"], 2)), *runs_of(["adam", "lion"], 3)),
    "one epoch": lambda: evidence_of(*runs_of(seeds=2, epochs=1, steps=1)),
    "long": lambda: evidence_of(*runs_of(seeds=2, epochs=150), *runs_of(seeds=2, config="paper", epochs=150)),
    "diverged": some_diverged,
    "without numbers": without_numbers,
    "all equal": all_equal,
    "two studies": two_studies,
    "unknown": lambda: evidence_of(
        *runs_of(
            [LONG, "my$own$", "lion"], 2, "paper", classes=("$a$", "an image of a cat with a $ sign", "b")
        ),
        searches=[search_result(LONG), search_result("my$own$", sampler="random", pruner="none")],
    ),
    "losses": lambda: evidence_of(searches=[search_result(), search_result("adam", objective="loss")]),
}


WITHOUT_ROWS = ("nothing", "losses")
DRAWN = [(case, name) for case in CASES for name in OVER_ROWS] + [
    (case, name) for case in CASES for name in FIRST_ROW if case not in WITHOUT_ROWS
]


@pytest.mark.parametrize(("case", "name"), DRAWN)
def test_whatever_records_lack_the_figure_is_readable_and_as_wide_as_a_column(
    case: str, name: str, assert_readable: Check
) -> None:
    found = CASES[case]()

    drawn = (OVER_ROWS | FIRST_ROW)[name](found)

    assert drawn.get_figwidth() == COLUMN
    assert drawn.get_figheight() < 9.5
    if name == "loss_surface" and len(drawn.axes) > 1:
        drawn.axes[0].remove()  # its labels are turned, so that their boxes overlap where they do not
    assert_readable(drawn)


@pytest.mark.parametrize("name", [*OVER_ROWS, *FIRST_ROW])
def test_figures_become_png_and_pdf(name: str) -> None:
    drawn = (OVER_ROWS | FIRST_ROW)[name](evidence_of(*runs_of(PAPER[:2], 2), searches=[search_result()]))

    assert png(drawn).startswith(b"\x89PNG")
    assert pdf(drawn).startswith(b"%PDF")


def test_pdf_has_the_same_bytes_in_another_process_and_no_date() -> None:
    code = (
        "import sys; from optstudy.report.figures.style import *; d = new_figure(2, 1); a = d.add_subplot();"
        "a.plot([1, 2], [3, 4]); a.set_title('$x$, \\N{GREEK SMALL LETTER TAU}'); sys.stdout.buffer.write(pdf(d))"
    )

    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    )

    assert first == second
    assert b"CreationDate" not in first
    assert b"/FontFile2" in first  # TrueType, inside
    assert b"/Type3" not in first
