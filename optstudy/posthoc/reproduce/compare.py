"""Judge a rerun's metric against the recorded one: identical, within tolerance or different."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Judgement = Literal["identical", "within tolerance", "different"]


@dataclass(frozen=True)
class Series:
    """Values of a metric: a scalar, an array, or values by epoch or step."""

    values: NDArray[Any]  # any shape; floats, classes or strings
    at: tuple[int, ...] = ()  # epoch or step of each value; empty for final values
    unit: str = ""  # epoch or step

    def position(self, index: int) -> str:
        """Return the epoch, step or indices of a value as text; ``index`` refers to the flattened values."""
        if self.unit:
            return f"{self.unit} {self.at[index]}"
        if self.values.size == 1:
            return "the end"
        indices = np.unravel_index(index, self.values.shape)
        return f"[{', '.join(str(int(i)) for i in indices)}]"


@dataclass(frozen=True)
class MetricComparison:
    """The comparison of a metric's recorded values with the rerun."""

    metric: str
    judgement: Judgement
    values: int  # number of compared values
    difference: float  # largest; 0 if identical, inf if it is not a finite number
    parted: str = ""  # position of the first difference
    there: str = ""  # recorded value at that position
    here: str = ""  # value of the rerun at that position
    unit: str = ""  # epoch or step; "" for the end of the run
    at: int = 0  # epoch or step of that position


def compare_metric(metric: str, recorded: Series, rerun: Series, tolerance: float) -> MetricComparison:
    r"""Compare the recorded values of a metric with those of a rerun.

    The difference of two scalars, epochs or steps is :math:`|a - b| / \max(|a|, |b|)`. In an array, whose entries may
    be near 0, it is :math:`|a - b| / \max_i |a_i|`. For classes and strings, it is the fraction that differs. A number
    that is not finite equals only itself, and -0 does not equal 0.

    Args:
        metric: Name of the metric.
        recorded: Its recorded values.
        rerun: Its values in the rerun.
        tolerance: Largest difference that counts as within tolerance.
    """
    if recorded.values.shape != rerun.values.shape or recorded.at != rerun.at:
        return _compare_shapes(metric, recorded, rerun)
    a, b = recorded.values.reshape(-1), rerun.values.reshape(-1)
    equal = _equal(a, b)
    if equal.all():
        return MetricComparison(metric, "identical", a.size, 0.0)
    first = int(np.argmin(equal))
    difference = _difference(a, b, equal, by_value=bool(recorded.unit) or a.size == 1)
    return MetricComparison(
        metric,
        "within tolerance" if difference <= tolerance else "different",
        a.size,
        difference,
        recorded.position(first),
        str(a[first]),
        str(b[first]),
        recorded.unit,
        recorded.at[first] if recorded.unit else 0,
    )


def _compare_shapes(metric: str, recorded: Series, rerun: Series) -> MetricComparison:
    """Compare series of different lengths or shapes, for example if only one of the runs diverged."""
    size = recorded.values.size
    if not (recorded.unit and rerun.unit):
        before, after = (f"shape {series.values.shape}" for series in (recorded, rerun))
        return MetricComparison(metric, "different", size, math.inf, "its shape", before, after)
    first, unit = min(set(recorded.at) ^ set(rerun.at)), recorded.unit
    before, after = (f"{len(series.at)} {series.unit}s" for series in (recorded, rerun))
    return MetricComparison(
        metric, "different", size, math.inf, f"{unit} {first}", before, after, unit, first
    )


def _equal(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = a == b
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return equal
    equal &= np.signbit(a) == np.signbit(b)
    equal |= np.isnan(a) & np.isnan(b)
    return equal


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
