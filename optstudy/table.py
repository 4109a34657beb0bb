"""The comparison: Table I of the paper, with seeds, from final runs; and its text in each format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from optstudy.errors import UsageError
from optstudy.statistics import mean_interval

if TYPE_CHECKING:  # seconds of imports, which figures, the terminal's table and tests do without
    from pandas import DataFrame

    from optstudy.tracking import FinalRun, FinalRuns

Format = Literal["markdown", "latex", "csv"]

PAPER = {  # Table I: train and test accuracy as fractions, in the paper's order, which ours keeps
    "sgd": (0.9989, 0.9893),
    "adagrad": (0.9999, 0.9837),
    "adam": (0.9996, 0.9895),
    "adahessian": (0.9999, 0.9910),
}
CONFIGS = ("best", "paper", "default")  # the order of an optimizer's rows; other arms follow by name
LABELS = {"sgd": "SGD", "adagrad": "AdaGrad", "adam": "Adam", "adahessian": "AdaHessian"}
LABELS |= {"adamw": "AdamW", "rmsprop": "RMSprop", "nadam": "NAdam", "radam": "RAdam"}


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracy over seeds with its 95 % Student t interval, as fractions."""

    mean: float
    low: float | None  # None with one seed
    high: float | None
    paper: float | None  # Table I's value; None where model, data or optimizer are not the paper's


@dataclass(frozen=True)
class Row:
    """One optimizer with one configuration in one study, over its seeds."""

    study: str
    optimizer: str
    config: str
    seeds: int  # how many
    train_accuracy: Accuracy
    test_accuracy: Accuracy
    diverged: int  # how many of the seeds; they count with the accuracy that they have
    seconds: float  # mean over seeds
    gradient_work: float  # mean over seeds; a forward and backward pass of one mini-batch is 1


@dataclass(frozen=True)
class Comparison:
    """The table's rows in the order of printing, and how many runs were left out, by reason."""

    rows: tuple[Row, ...]
    excluded: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers for JSON: ``rows`` and ``excluded``, accuracies as fractions."""
        return {"rows": [asdict(row) for row in self.rows], "excluded": self.excluded}

    def to_pandas(self) -> DataFrame:
        """Return a data frame, one row for each optimizer and configuration.

        An accuracy takes four columns, for example ``test_accuracy`` (the mean), ``test_accuracy_low``,
        ``test_accuracy_high`` and ``test_accuracy_paper``, all fractions; what is not known is NaN.
        """
        import pandas as pd

        keys, numbers = ["study", "optimizer", "config"], ["mean", "low", "high", "paper"]
        columns = [
            *(*keys, "seeds"),
            *(f"{part}_accuracy_{number}" for part in ("train", "test") for number in numbers),
            *("diverged", "seconds", "gradient_work"),
        ]
        types = dict.fromkeys(columns, "float64") | dict.fromkeys(keys, "str")
        types |= {"seeds": "int64", "diverged": "int64"}
        frame = pd.DataFrame([_flat(row) for row in self.rows], columns=columns).astype(types)
        return frame.rename(columns=lambda name: name.removesuffix("_mean"))


def compare(final: FinalRuns, studies: Sequence[str] = ()) -> Comparison:
    """Summarise final runs over their seeds, in whatever order they come.

    Args:
        final: Finished runs, accuracies as finite fractions, each seed of a configuration once.
        studies: The order of the studies; those that it does not name follow by name.

    Returns:
        A row for each study, optimizer and configuration, in that order: optimizers in the paper's and then by
        name, configurations best, paper, default, then by name.
    """
    groups: dict[tuple[str, str, str], list[FinalRun]] = {}
    for run in final.runs:
        groups.setdefault((run.study, run.optimizer, run.config), []).append(run)
    places = sorted(groups, key=lambda names: (_index(studies, names[0]), *_position(*names)))
    rows = [_row(groups[place]) for place in places]
    return Comparison(tuple(rows), dict(final.excluded))


def label_of(optimizer: str) -> str:
    """Return an optimizer's name as papers write it; a name that is not known stays as it is."""
    return LABELS.get(optimizer, optimizer)


def columns(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Write every cell of the table as text, the same for the terminal, Markdown and LaTeX.

    Returns:
        Headers, and as many cells a row: study (only of several), optimizer, configuration, seeds, accuracies
        in per cent, "± half width" where it is known. The paper's values have columns of their own where any
        row has some; "--" stands where there is none.
    """
    several = len({row.study for row in comparison.rows}) > 1
    published = any(row.test_accuracy.paper is not None for row in comparison.rows)
    headers = ["Study"] * several + ["Optimizer", "Config", "Seeds"]
    for part in ("Train", "Test"):
        headers += [f"{part} (%)"] + [f"{part}, paper (%)"] * published
    return headers, [_cells(row, several=several, published=published) for row in comparison.rows]


def caption(comparison: Comparison) -> str:
    """Say what the numbers of the table are and what was left out, for printing under it."""
    rows = comparison.rows
    sentences = [] if rows else ["There are no finished final runs."]
    if any(row.seeds > 1 for row in rows):
        sentences += [
            "Accuracy is the mean over seeds, ± half the width of its 95 % Student t interval over seeds.",
            "The interval leaves out the sampling error of the test images.",
        ]
    if any(row.seeds == 1 for row in rows):
        sentences += ["One seed shows no spread."]
    if diverged := sum(row.diverged for row in rows):
        sentences += [f"Diverged runs ({diverged}) count with the accuracy that they have."]
    if left_out := ", ".join(f"{count} {why}" for why, count in comparison.excluded.items() if count):
        sentences += [f"Runs left out: {left_out}."]
    return " ".join(sentences)


def render(comparison: Comparison, format: Format) -> str:  # noqa: A002 - named like the flag --format
    """Write the comparison as text.

    Args:
        comparison: What ``compare`` returned.
        format: ``markdown`` and ``latex`` (for the package booktabs) hold the cells of ``columns`` and the
            caption; ``csv`` holds the plain numbers of ``to_pandas``, accuracies as fractions.

    Returns:
        The text, ending with a newline.

    Raises:
        UsageError: If there is no such format.
    """
    if format == "csv":
        return comparison.to_pandas().to_csv(index=False)
    if format not in ("markdown", "latex"):
        raise UsageError(f"format is {format!r}; give markdown, latex or csv")
    return _markdown(comparison) if format == "markdown" else _latex(comparison)


def _position(study: str, optimizer: str, config: str) -> tuple[str, int, str, int, str]:
    return study, _index(tuple(PAPER), optimizer), optimizer, _index(CONFIGS, config), config


def _index(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def _row(runs: Sequence[FinalRun]) -> Row:
    first = runs[0]
    comparable = first.optimizer in PAPER and all(run.paper_setting for run in runs)
    paper_train, paper_test = PAPER[first.optimizer] if comparable else (None, None)
    return Row(
        study=first.study,
        optimizer=first.optimizer,
        config=first.config,
        seeds=len(runs),
        train_accuracy=_accuracy([run.train_accuracy for run in runs], paper_train),
        test_accuracy=_accuracy([run.test_accuracy for run in runs], paper_test),
        diverged=sum(run.outcome == "diverged" for run in runs),
        seconds=fmean(run.seconds for run in runs),
        gradient_work=fmean(run.gradient_work for run in runs),
    )


def _accuracy(fractions: Sequence[float], paper: float | None) -> Accuracy:
    interval = mean_interval(fractions)
    return Accuracy(interval.mean, interval.low, interval.high, paper)


def _flat(row: Row) -> dict[str, Any]:
    cells = asdict(row)
    for part in ("train_accuracy", "test_accuracy"):
        cells |= {f"{part}_{name}": value for name, value in cells.pop(part).items()}
    return cells


def _cells(row: Row, *, several: bool, published: bool) -> list[str]:
    seeds = f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds)
    cells = [row.study] * several + [label_of(row.optimizer), row.config, seeds]
    for accuracy in (row.train_accuracy, row.test_accuracy):
        paper = "--" if accuracy.paper is None else f"{accuracy.paper:.2%}".removesuffix("%")
        cells += [_percent(accuracy)] + [paper] * published
    return cells


def _percent(accuracy: Accuracy) -> str:
    if accuracy.low is None or accuracy.high is None:
        return f"{100 * accuracy.mean:.2f}"
    return f"{100 * accuracy.mean:.2f} ± {50 * (accuracy.high - accuracy.low):.2f}"


def _alignment(headers: Sequence[str]) -> list[Literal["left", "right"]]:
    return ["left" if name in {"Study", "Optimizer", "Config"} else "right" for name in headers]


def _markdown(comparison: Comparison) -> str:
    import pandas as pd

    headers, rows = columns(comparison)
    frame = pd.DataFrame(rows, columns=headers)
    # tabulate would read the cells as numbers and print 98.90 as 98.9.
    table = frame.to_markdown(index=False, disable_numparse=True, colalign=_alignment(headers))
    return f"{table}\n\n{caption(comparison)}\n"


def _latex(comparison: Comparison) -> str:
    import pandas as pd

    headers, rows = columns(comparison)
    escaped = pd.DataFrame(
        [[_escape(cell) for cell in row] for row in rows], columns=[_escape(name) for name in headers]
    )
    return escaped.to_latex(
        index=False,
        column_format="".join(side[0] for side in _alignment(headers)),
        caption=_escape(caption(comparison)),
        label="tab:comparison",
    )


def _escape(text: str) -> str:
    special = {ord(letter): f"\\{letter}" for letter in "&%$#_{}"}
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return text.translate(special | {ord(letter): word for letter, word in words.items()})
