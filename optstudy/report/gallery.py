"""The figures of a report in order, each with its title and caption."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from optstudy.comparison.table import Comparison
from optstudy.records.evidence import Evidence, only
from optstudy.records.naming import RowKey
from optstudy.report import figures


@dataclass(frozen=True)
class Exhibit:
    """One figure of a report."""

    name: str  # for its files; `file_names` makes it fit for them
    title: str
    caption: str
    figure: figures.Figure


def gallery(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    """Draw all that the evidence has data for, study by study, and then the searches side by side."""
    studies = list(dict.fromkeys(row.study for row in comparison.rows))
    for study in studies:
        front = f"{study}-" if len(studies) > 1 else ""
        named = f"{study}: " if len(studies) > 1 else ""
        some = only(evidence, [study])
        own = Comparison(
            tuple(row for row in comparison.rows if row.study == study),
            tuple(pair for pair in comparison.pairs if pair.study == study),
            {},
            looks=comparison.looks,
        )
        for exhibit in _study(own, some):
            yield Exhibit(front + exhibit.name, named + exhibit.title, exhibit.caption, exhibit.figure)
    if evidence.searches:
        yield from _searches(evidence)


def file_names(exhibits: Iterable[Exhibit]) -> list[str]:
    """Return a file name for each, without ending: letters that every file system takes, no name twice."""
    found: dict[str, None] = {}
    for one in exhibits:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", one.name)
        numbered = (f"{name}-{number}" for number in count(2))
        found[name if name not in found else next(other for other in numbered if other not in found)] = None
    return list(found)


def _study(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    yield Exhibit(
        "accuracies",
        "Test accuracy",
        "Each dot is a seed. The thick interval is Student's t over seeds; the thin one is Wilson's, of the draw of"
        " test images, which more seeds do not narrow. Intervals that overlap do not tell whether two differ:"
        " the next figure does.",
        figures.accuracies(comparison, evidence),
    )
    if comparison.pairs:
        yield Exhibit(
            "differences",
            "Differences",
            "A filled mark is a difference that Holm's test shows. Intervals are Bonferroni's over all pairs, which are"
            " wider: one may hold zero where the difference is shown. A wide one with an open mark shows neither a"
            " difference nor, beyond the shaded strip, that it does not matter.",
            figures.differences(comparison, margin=evidence.runs[0].run.margin),
        )
    if any(one.run.target is not None for one in evidence.runs):
        yield Exhibit(
            "times_to_target",
            "Time to the target",
            "The share of seeds that had reached the target accuracy. A curve further left is faster: by epochs on one"
            " panel, by gradient work on the other, where a Hessian product counts 2. A curve that ends below 100 %"
            " had seeds that never reached it.",
            figures.times_to_target(evidence),
        )
    if any(one.epochs for one in evidence.runs):
        yield Exhibit(
            "gradient_norms",
            "Gradient norm (figure 1 of the paper)",
            "The norm of the last mini-batch's gradient of each epoch: median over seeds, in the band from the least to"
            " the largest. One mini-batch is a noisy witness, so look at the trend and the width rather than at single"
            " epochs.",
            figures.gradient_norms(evidence),
        )
    yield from _geometry(comparison, evidence)
    yield from _rows(evidence)


def _geometry(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    if any(one.curvature is not None and len(one.curvature.line) for one in evidence.runs):
        yield Exhibit(
            "loss_lines",
            "Loss along the first eigenvector (figure 2 of the paper)",
            "The loss along the direction of largest curvature, over the seeds. An eigenvector has no sign, so each"
            " seed's line is turned to rise more on the right; the end of training, at 0, need not be the least."
            " Distances are in the space of the weights, whose scale differs between optimizers: a flat line is not"
            " by itself a better minimum.",
            figures.loss_lines(evidence),
        )
    if any(one.trace is not None for one in evidence.runs):
        yield Exhibit(
            "ratios",
            "Ratio of the two largest eigenvalues (figure 3 of the paper)",
            "Median over seeds and the band from the least to the largest. A separated ratio is one whose"
            " interval lies above 1, if only a little: how far above says how much one direction dominates. Of opposite"
            " signs means that one of the two eigenvalues is negative; a ratio below 1 cannot occur.",
            figures.ratios(evidence),
        )
    if any(row.geometry is not None and row.geometry.runs > 1 for row in comparison.rows):
        yield Exhibit(
            "flatness",
            "Flatness against test error",
            "A point is a seed. Kendall's tau-b describes these runs of one optimizer; it is never pooled over"
            " optimizers, and proves nothing of flatness as a cause.",
            figures.flatness(evidence, comparison),
        )


def _rows(evidence: Evidence) -> Iterator[Exhibit]:
    for key, row in evidence.rows().items():
        label = evidence.looks.row(key)
        if any(one.predictions is not None for one in row):
            yield Exhibit(
                f"confusion-{_file_name(key)}",
                f"{label}: confusion (figures 4 to 7 of the paper)",
                "Rows are true classes, columns what the network takes them for, in per cent, mean over the seeds. Look"
                " off the diagonal for the pairs of classes that are mixed up.",
                figures.confusion_of(row, label),
            )
    for key, row in evidence.rows().items():
        label = evidence.looks.row(key)
        if any(one.curvature is not None and one.curvature.plane.size for one in row):
            yield Exhibit(
                f"surface-{_file_name(key)}",
                f"{label}: loss around the end (figures 8 to 11 of the paper)",
                "The loss over the plane of the first two eigenvectors, for the seed with the median rise; other seeds"
                " lie along other vectors, and cannot be averaged. Where the ratio is degenerate the plane has a"
                " meaning, and its two axes have none.",
                figures.surface_of(row, label),
            )


def _searches(evidence: Evidence) -> Iterator[Exhibit]:
    yield Exhibit(
        "tuning_curves",
        "Tuning",
        "The best validation score so far, against the trials and against the work that they took. A steep start says"
        " that the space or its defaults are easy; equal trials are not equal work. Bands stand only over independent"
        " searches, or where random search lets its trials come in any order.",
        figures.tuning_curves(evidence),
    )
    yield Exhibit(
        "learning_rates",
        "Validation score against learning rate",
        "Every trial of each search. A broad top says that the optimizer is robust to its learning rate;"
        " a best trial at the edge says that the range was too narrow.",
        figures.learning_rates(evidence),
    )


def _file_name(key: RowKey) -> str:
    return key.optimizer if key.config == "best" else f"{key.optimizer}-{key.config}"
