"""The comparison of final runs: Table I of the paper over seeds, with pairs, verdicts and ranks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optstudy.comparison.pairs import Pair, pair_rows, row_rank
from optstudy.comparison.sources import SourceVersion, differing_sources
from optstudy.comparison.summaries import (
    GeometrySummary,
    ImageSummary,
    TargetSummary,
    summarise_geometry,
    summarise_images,
    summarise_target,
)
from optstudy.errors import count_reasons
from optstudy.records.checksums import Damage
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.io import replace_nonfinite
from optstudy.records.look import Looks
from optstudy.records.naming import PAPER, RowKey, order_index, sort_key
from optstudy.records.run import FinalRun
from optstudy.records.search import SearchResult
from optstudy.statistics import Interval, mean_interval

if TYPE_CHECKING:  # pandas takes half a second to import
    from pandas import DataFrame


@dataclass(frozen=True)
class Row:
    """One optimizer with one configuration in one study, over its seeds."""

    study: str
    optimizer: str
    config: str
    seeds: int  # number of runs
    train_accuracy: Interval  # fraction, mean over seeds with its 95 % Student t interval
    test_accuracy: Interval
    paper: (
        tuple[float, float] | None
    )  # Table I's accuracies; None if model, data or optimizer differ from the paper's
    diverged: int  # number of diverged runs, which count with their last accuracy
    seconds: float  # of training, mean over seeds; at the pace of the timed steps if there are any
    step_seconds: float | None  # of one step, timed while the other workers idled; None if not timed
    gradient_work: float  # mean over seeds; a forward and backward pass of one mini-batch is 1
    rank: str  # in its study; "tie" if one of its pairs is undecided
    images: ImageSummary | None  # None without predictions
    to_target: TargetSummary | None  # None without a target
    geometry: GeometrySummary | None  # None if no curvature was measured
    missing_curvature: dict[str, int]  # runs that lack the curvature at their end, by reason
    missing_trace: dict[str, int]  # runs that lack the eigenvalues of their last steps, by reason

    @property
    def key(self) -> RowKey:
        """The key of the row."""
        return RowKey(self.study, self.optimizer, self.config)


@dataclass(frozen=True)
class Comparison:
    """The rows and pairs of some studies, in order, and the number of excluded runs by reason."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    excluded: dict[str, int]
    searches: tuple[SearchResult, ...] = ()  # finished searches
    looks: Looks = field(default_factory=Looks)
    sources: tuple[SourceVersion, ...] = ()  # of files that differ between the trials and runs of a study
    damaged: tuple[Damage, ...] = ()  # runs and searches that are left out

    def of_optimizers(self, optimizers: Sequence[str]) -> "Comparison":
        """Return only the rows of some optimizers; ranks and p-values still refer to all rows of the study."""
        return replace(
            self,
            rows=tuple(row for row in self.rows if row.optimizer in optimizers),
            pairs=tuple(pair for pair in self.pairs if {pair.a.optimizer, pair.b.optimizer} <= {*optimizers}),
            searches=tuple(search for search in self.searches if search.optimizer in optimizers),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, accuracies as fractions; unknown values are None."""
        return {
            "rows": [replace_nonfinite(_to_form(row)) for row in self.rows],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "excluded": self.excluded,
            "damaged": [{"run": damage.subject, "problem": damage.problem} for damage in self.damaged],
            "searches": [replace_nonfinite(search.summary()) for search in self.searches],
            "sources": [asdict(version) for version in self.sources],
        }

    def to_pandas(self) -> "DataFrame":
        """Return a data frame, one row for each optimizer and configuration.

        An accuracy takes four columns, for example ``test_accuracy`` (the mean), ``test_accuracy_low``,
        ``test_accuracy_high`` and ``test_accuracy_paper``, all fractions; unknown values are NaN.
        """
        import pandas as pd

        keys, numbers = ["study", "optimizer", "config"], ["mean", "low", "high", "paper"]
        columns = [
            *(*keys, "seeds"),
            *(f"{part}_accuracy_{number}" for part in ("train", "test") for number in numbers),
            *("diverged", "seconds", "gradient_work", "rank"),
        ]
        types = dict.fromkeys(columns, "float64") | dict.fromkeys([*keys, "rank"], "str")
        types |= {"seeds": "int64", "diverged": "int64"}
        frame = pd.DataFrame([_flatten(row) for row in self.rows], columns=columns).astype(types)
        return frame.rename(columns=lambda name: name.removesuffix("_mean"))


def compare(evidence: Evidence) -> Comparison:
    """Compare final runs: summarise each row over its seeds, and test each pair.

    Args:
        evidence: Finished runs in any order, at most one per seed of a configuration; pairs need predictions.

    Returns:
        A row for each study, optimizer and configuration, in this order: the paper's optimizers, then others by
        name; configurations best, paper, default, then others by name.
    """
    groups, studies = evidence.rows(), evidence.studies
    keys = sorted(
        groups,
        key=lambda key: (order_index(studies, key.study), key.study, *sort_key(key.optimizer, key.config)),
    )
    correct = {
        final.run.run_id: final.predictions.correct
        for final in evidence.runs
        if final.predictions is not None
    }
    pairs = pair_rows([final.run for key in keys for final in groups[key]], correct)
    other_rows = {key.study: sum(other.study == key.study for other in keys) - 1 for key in keys}
    rows = tuple(_row(key, groups[key], row_rank(key, pairs, other_rows[key.study])) for key in keys)
    searches = sorted(
        evidence.searches,
        key=lambda search: (order_index(studies, search.study), search.study, *sort_key(search.optimizer)),
    )
    sources = differing_sources(evidence)
    return Comparison(
        rows, pairs, dict(evidence.excluded), tuple(searches), evidence.looks, sources, evidence.damaged
    )


def _row(key: RowKey, evidence: Sequence[RunEvidence], rank: str) -> Row:
    runs = [final.run for final in evidence]
    comparable = key.optimizer in PAPER and all(run.paper_setting for run in runs)
    return Row(
        study=key.study,
        optimizer=key.optimizer,
        config=key.config,
        seeds=len(runs),
        train_accuracy=mean_interval(run.train_accuracy for run in runs),
        test_accuracy=mean_interval(run.test_accuracy for run in runs),
        paper=PAPER[key.optimizer] if comparable else None,
        diverged=sum(run.outcome == "diverged" for run in runs),
        seconds=fmean(run.pace_seconds for run in runs),
        step_seconds=_mean_pace(runs),
        gradient_work=fmean(run.gradient_work for run in runs),
        rank=rank,
        images=summarise_images([final.predictions for final in evidence if final.predictions is not None]),
        to_target=summarise_target(runs),
        geometry=summarise_geometry(runs),
        missing_curvature=count_reasons(run.curvature_problem for run in runs),
        missing_trace=count_reasons(run.trace_problem for run in runs),
    )


def _mean_pace(runs: Sequence[FinalRun]) -> float | None:
    timed = [run.step_seconds for run in runs if run.step_seconds is not None]
    return fmean(timed) if timed else None


def _to_form(row: Row) -> dict[str, Any]:
    """Return a row as in JSON, with the paper's accuracies next to ours."""
    form = asdict(row)
    form["train_accuracy"]["paper"], form["test_accuracy"]["paper"] = form.pop("paper") or (None, None)
    return form


def _flatten(row: Row) -> dict[str, Any]:
    cells = _to_form(row)
    for part in ("train_accuracy", "test_accuracy"):
        cells |= {f"{part}_{name}": value for name, value in cells.pop(part).items()}
    return cells
