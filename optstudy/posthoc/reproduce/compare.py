"""Judge a rerun's metric against the recorded one: identical, within tolerance or different."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Judgement = Literal["identical", "within tolerance", "different"]


@dataclass(frozen=True)
class Series:
    """Values of one kind: one, an array, or one for each of some epochs or steps."""

    values: NDArray[Any]  # any shape; floats, classes or words
    at: tuple[int, ...] = ()  # the epoch or step of each value; empty where values belong to the end
    unit: str = ""  # epoch or step

    def place(self, index: int) -> str:
        """Say where a value stands; ``index`` counts over the flattened values."""
        if self.unit:
            return f"{self.unit} {self.at[index]}"
        if self.values.size == 1:
            return "the end"
        found = np.unravel_index(index, self.values.shape)
        return f"[{', '.join(str(int(part)) for part in found)}]"


@dataclass(frozen=True)
class MetricComparison:
    """One metric of a run, as it was recorded and as it was made again."""

    metric: str
    judgement: Judgement
    values: int  # that were compared
    difference: float  # largest; 0 where identical, inf where it has no size
    parted: str = ""  # where the first value differs
    there: str = ""  # that value
    here: str = ""
    unit: str = ""  # epoch or step, "" for the end of the run
    at: int = 0  # the epoch or step


def compare_metric(metric: str, there: Series, here: Series, tolerance: float) -> MetricComparison:
    r"""Compare what was recorded with what was made again.

    The difference of two values by epoch or step is :math:`|a - b| / \max(|a|, |b|)`; in an array of the end,
    whose entries may be near 0, it is :math:`|a - b| / \max_i |a_i|`; in classes and words it is the share that
    differ. Numbers that are not finite are equal to
    themselves alone, and -0 is not 0.

    Args:
        metric: Its name.
        there: As recorded.
        here: As made again.
        tolerance: Largest difference that counts as within tolerance.
    """
    if there.values.shape != here.values.shape or there.at != here.at:
        return _unlike(metric, there, here)
    a, b = there.values.reshape(-1), here.values.reshape(-1)
    equal = _equal(a, b)
    if equal.all():
        return MetricComparison(metric, "identical", a.size, 0.0)
    first = int(np.argmin(equal))
    difference = _difference(a, b, equal, by_value=bool(there.unit) or a.size == 1)
    return MetricComparison(
        metric,
        "within tolerance" if difference <= tolerance else "different",
        a.size,
        difference,
        there.place(first),
        str(a[first]),
        str(b[first]),
        there.unit,
        there.at[first] if there.unit else 0,
    )


def _unlike(metric: str, there: Series, here: Series) -> MetricComparison:
    """Judge two series that have values at different places, as of runs of which one diverged."""
    if not (there.unit and here.unit):
        shapes = [f"shape {one.values.shape}" for one in (there, here)]
        return MetricComparison(
            metric, "different", there.values.size, math.inf, "its shape", there=shapes[0], here=shapes[1]
        )
    first = min(set(there.at) ^ set(here.at))
    counts = [f"{len(one.at)} {one.unit}s" for one in (there, here)]
    return MetricComparison(
        metric=metric,
        judgement="different",
        values=len(there.at),
        difference=math.inf,
        parted=f"{there.unit} {first}",
        there=counts[0],
        here=counts[1],
        unit=there.unit,
        at=first,
    )


def _equal(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = a == b
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return same
    same &= np.signbit(a) == np.signbit(b)
    same |= np.isnan(a) & np.isnan(b)
    return same


def _difference(a: NDArray[Any], b: NDArray[Any], equal: NDArray[np.bool_], *, by_value: bool) -> float:
    if a.dtype.kind != "f":
        return float(1 - equal.mean())
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a) | equal).all() or not (np.isfinite(b) | equal).all():
        return math.inf
    gap = np.abs(a - b)[~equal]
    if by_value:
        larger = np.maximum(np.abs(a), np.abs(b))[~equal]
        return float(np.divide(gap, larger, out=np.zeros_like(gap), where=larger > 0).max())
    largest = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return float(gap.max() / largest) if largest else math.inf
