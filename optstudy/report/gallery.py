"""The figures of a report in order, each with its title and caption."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count

from optstudy.comparison.table import Comparison
from optstudy.records.evidence import Evidence
from optstudy.records.naming import RowKey
from optstudy.report import figures


@dataclass(frozen=True)
class Exhibit:
    """One figure of a report."""

    name: str  # `file_names` derives a file name from it
    title: str
    caption: str
    figure: figures.Figure


def gallery(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    """Draw every figure for which the evidence has data: those of each study, then those of all searches."""
    studies = list(dict.fromkeys(row.study for row in comparison.rows))
    for study in studies:
        several = len(studies) > 1
        study_comparison = Comparison(
            tuple(row for row in comparison.rows if row.study == study),
            tuple(pair for pair in comparison.pairs if pair.study == study),
            {},
            looks=comparison.looks,
        )
        for exhibit in _study_figures(study_comparison, evidence.of_studies([study])):
            yield replace(
                exhibit,
                name=f"{study}-" * several + exhibit.name,
                title=f"{study}: " * several + exhibit.title,
            )
    if evidence.searches:
        yield from _search_figures(evidence)


def file_names(exhibits: Iterable[Exhibit]) -> list[str]:
    """Return a unique file name for each figure, without extension, in characters that every file system allows."""
    names: dict[str, None] = {}
    for exhibit in exhibits:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", exhibit.name)
        candidates = chain([name], (f"{name}-{number}" for number in count(2)))
        names[next(candidate for candidate in candidates if candidate not in names)] = None
    return list(names)


def _study_figures(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    yield Exhibit(
        "accuracies",
        "Test accuracy",
        "Each dot is a seed. The thick interval is Student's t over seeds; the thin one is Wilson's, over the choice of"
        " test examples; more seeds do not narrow it. Overlapping intervals do not decide whether two optimizers"
        " differ; the next figure does.",
        figures.accuracies(comparison, evidence),
    )
    if comparison.pairs:
        yield Exhibit(
            "differences",
            "Differences",
            "A filled mark is a difference that Holm's test shows. Intervals are Bonferroni's over all pairs, which are"
            " wider: one may contain zero although the difference is significant. A wide interval with an open mark"
            " shows neither a difference nor equivalence within the shaded strip.",
            figures.differences(comparison, margin=evidence.runs[0].run.margin),
        )
    if any(final.run.target is not None for final in evidence.runs):
        yield Exhibit(
            "times_to_target",
            "Time to the target",
            "The share of seeds that had reached the target accuracy. A curve further left is faster: by epochs on one"
            " panel, by gradient work on the other, where a Hessian product counts 2. A curve that ends below 100 %"
            " had seeds that never reached it.",
            figures.times_to_target(evidence),
        )
    if any(final.epochs for final in evidence.runs):
        yield Exhibit(
            "gradient_norms",
            "Gradient norm (figure 1 of the paper)",
            "The norm of the last mini-batch's gradient of each epoch: median over seeds, and the band from the"
            " smallest to the largest. A single mini-batch is noisy, so read the trend and the width of the band rather"
            " than single epochs.",
            figures.gradient_norms(evidence),
        )
    yield from _curvature_figures(comparison, evidence)
    yield from _row_figures(evidence)


def _curvature_figures(comparison: Comparison, evidence: Evidence) -> Iterator[Exhibit]:
    if any(final.curvature is not None and len(final.curvature.line) for final in evidence.runs):
        yield Exhibit(
            "loss_lines",
            "Loss along the first eigenvector (figure 2 of the paper)",
            "The loss along the direction of largest curvature, over the seeds. An eigenvector has no sign, so each"
            " seed's line is turned to rise more on the right; the end of training, at 0, need not be the minimum."
            " Distances are in the space of the weights, whose scale differs between optimizers: a flat line is not"
            " by itself a better minimum.",
            figures.loss_lines(evidence),
        )
    if any(final.trace is not None for final in evidence.runs):
        yield Exhibit(
            "ratios",
            "Ratio of the two largest eigenvalues (figure 3 of the paper)",
            "Median over seeds, and the band from the smallest to the largest. A separated ratio is one whose"
            " interval lies above 1; the further above, the more one direction dominates. Opposite signs means that one"
            " of the two eigenvalues is negative; a ratio below 1 cannot occur.",
            figures.ratios(evidence),
        )
    if any(row.geometry is not None and row.geometry.runs > 1 for row in comparison.rows):
        yield Exhibit(
            "flatness",
            "Flatness against test error",
            "A point is a seed. Kendall's tau-b describes these runs of one optimizer; it is never pooled over"
            " optimizers, and is no evidence that flatness is a cause.",
            figures.flatness(evidence, comparison),
        )


def _row_figures(evidence: Evidence) -> Iterator[Exhibit]:
    for key, row in evidence.rows().items():
        label = evidence.looks.row_label(key)
        if any(final.predictions is not None for final in row):
            yield Exhibit(
                f"confusion-{_file_name(key)}",
                f"{label}: confusion (figures 4 to 7 of the paper)",
                "Rows are true classes, columns are predicted classes, in per cent, mean over the seeds."
                " Off the diagonal are the pairs of classes that are confused.",
                figures.mean_confusion(row, label),
            )
    for key, row in evidence.rows().items():
        label = evidence.looks.row_label(key)
        if any(final.curvature is not None and final.curvature.plane.size for final in row):
            yield Exhibit(
                f"surface-{_file_name(key)}",
                f"{label}: loss around the end (figures 8 to 11 of the paper)",
                "The loss over the plane of the first two eigenvectors, for the seed with the median rise; other seeds"
                " have other eigenvectors, and their planes cannot be averaged. Where the ratio is degenerate the plane"
                " has a meaning, but its two axes do not.",
                figures.loss_surface(row, label),
            )


def _search_figures(evidence: Evidence) -> Iterator[Exhibit]:
    yield Exhibit(
        "tuning_curves",
        "Tuning",
        "The best validation score so far, against trials and against gradient work. A steep start means that the"
        " space is easy or its defaults are good; equal trials are not equal work. Bands are drawn only over"
        " independent searches, or over the orders of a random search's trials.",
        figures.tuning_curves(evidence),
    )
    yield Exhibit(
        "learning_rates",
        "Validation score against learning rate",
        "Every trial of each search. A broad top means that the optimizer is robust to its learning rate;"
        " a best trial at the edge means that the range is too narrow.",
        figures.learning_rates(evidence),
    )


def _file_name(key: RowKey) -> str:
    return key.optimizer if key.config == "best" else f"{key.optimizer}-{key.config}"
