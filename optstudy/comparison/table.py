"""The comparison of final runs: Table I of the paper over seeds, with pairs, verdicts and ranks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optstudy.comparison.pairs import Pair, pairs_of, rank_of
from optstudy.comparison.summaries import (
    Geometry,
    ImageSummary,
    ToTarget,
    geometry_of,
    summarise_images,
    to_target,
)
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.io import plain
from optstudy.records.look import Looks
from optstudy.records.naming import PAPER, RowKey, index_of, sort_key
from optstudy.records.run import FinalRun
from optstudy.records.search import SearchResult
from optstudy.statistics import mean_interval

if TYPE_CHECKING:  # pandas takes half a second to import
    from pandas import DataFrame


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
    seconds: float  # of training, mean over seeds; at the pace of its timed steps where these are known
    step_seconds: float | None  # of one step, timed while the other workers idled; None where it was not
    gradient_work: float  # mean over seeds; a forward and backward pass of one mini-batch is 1
    rank: str  # among the rows of its study, "tie" where a pair with it is open
    images: ImageSummary | None  # None without predictions
    to_target: ToTarget | None  # None where the study had none
    geometry: Geometry | None  # None where no curvature was measured

    @property
    def key(self) -> RowKey:
        """Which row it is."""
        return RowKey(self.study, self.optimizer, self.config)


@dataclass(frozen=True)
class Comparison:
    """The table's rows and pairs in the order of printing, and how many runs were left out, by reason."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    excluded: dict[str, int]
    searches: tuple[SearchResult, ...] = ()  # that are finished
    looks: Looks = field(default_factory=Looks)  # of the optimizers

    def only(self, optimizers: Sequence[str]) -> "Comparison":
        """Leave out other optimizers; ranks and p-values stay those among all that the study has."""
        return replace(
            self,
            rows=tuple(row for row in self.rows if row.optimizer in optimizers),
            pairs=tuple(pair for pair in self.pairs if {pair.a.optimizer, pair.b.optimizer} <= {*optimizers}),
            searches=tuple(search for search in self.searches if search.optimizer in optimizers),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers for JSON, accuracies as fractions; what is not known is None."""
        return {
            "rows": [plain(asdict(row)) for row in self.rows],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "excluded": self.excluded,
            "searches": [plain(search.summary()) for search in self.searches],
        }

    def to_pandas(self) -> "DataFrame":
        """Return a data frame, one row for each optimizer and configuration.

        An accuracy takes four columns, for example ``test_accuracy`` (the mean), ``test_accuracy_low``,
        ``test_accuracy_high`` and ``test_accuracy_paper``, all fractions; what is not known is NaN.
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
        frame = pd.DataFrame([_flat(row) for row in self.rows], columns=columns).astype(types)
        return frame.rename(columns=lambda name: name.removesuffix("_mean"))


def compare(evidence: Evidence) -> Comparison:
    """Summarise final runs over their seeds, in whatever order they come.

    Args:
        evidence: Finished runs, accuracies as finite fractions, each seed of a configuration once; there are no pairs
            without their predictions.

    Returns:
        A row for each study, optimizer and configuration, in that order: optimizers in the paper's and then by
        name, configurations best, paper, default, then by name.
    """
    groups, studies = evidence.rows(), evidence.studies
    keys = sorted(
        groups,
        key=lambda key: (index_of(studies, key.study), key.study, *sort_key(key.optimizer, key.config)),
    )
    correct = {
        one.run.run_id: one.predictions.correct for one in evidence.runs if one.predictions is not None
    }
    pairs = pairs_of([one.run for key in keys for one in groups[key]], correct)
    others = {key.study: sum(other.study == key.study for other in keys) - 1 for key in keys}
    rows = tuple(_row(key, groups[key], rank_of(key, pairs, others[key.study])) for key in keys)
    searches = sorted(
        evidence.searches, key=lambda one: (index_of(studies, one.study), one.study, *sort_key(one.optimizer))
    )
    return Comparison(rows, pairs, dict(evidence.excluded), tuple(searches), evidence.looks)


def _row(key: RowKey, found: Sequence[RunEvidence], rank: str) -> Row:
    runs = [one.run for one in found]
    comparable = key.optimizer in PAPER and all(run.paper_setting for run in runs)
    paper_train, paper_test = PAPER[key.optimizer] if comparable else (None, None)
    return Row(
        study=key.study,
        optimizer=key.optimizer,
        config=key.config,
        seeds=len(runs),
        train_accuracy=_accuracy([run.train_accuracy for run in runs], paper_train),
        test_accuracy=_accuracy([run.test_accuracy for run in runs], paper_test),
        diverged=sum(run.outcome == "diverged" for run in runs),
        seconds=fmean(run.pace_seconds for run in runs),
        step_seconds=_mean_pace(runs),
        gradient_work=fmean(run.gradient_work for run in runs),
        rank=rank,
        images=summarise_images([one.predictions for one in found if one.predictions is not None]),
        to_target=to_target(runs),
        geometry=geometry_of(runs),
    )


def _mean_pace(runs: Sequence[FinalRun]) -> float | None:
    known = [run.step_seconds for run in runs if run.step_seconds is not None]
    return fmean(known) if known else None


def _accuracy(fractions: Sequence[float], paper: float | None) -> Accuracy:
    interval = mean_interval(fractions)
    return Accuracy(interval.mean, interval.low, interval.high, paper)


def _flat(row: Row) -> dict[str, Any]:
    cells = asdict(row)
    for part in ("train_accuracy", "test_accuracy"):
        cells |= {f"{part}_{name}": value for name, value in cells.pop(part).items()}
    return cells
