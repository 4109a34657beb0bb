"""Results of measuring the curvature at fixed weights."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from optstudy.records.arrays import ArrayRecord
from optstudy.records.io import replace_nonfinite

Floats = NDArray[np.float64]

# Incremented when curvature is measured in another way, which does not change the key of a run. Records of other
# formats are read, and measured again where a study continues. 0 is that of records without a format.
CURVATURE_FORMAT = 1
NO_SIGN = "indefinite"  # the verdict of format 0, which had no signs, on values of opposite signs

_empty_line, _empty_plane = partial(np.zeros, 0), partial(np.zeros, (0, 0))
_nan_interval = partial(np.full, 3, math.nan)


def recorded_sign(verdict: str, sign: str) -> str:
    """Return the sign of a ratio as recorded, "" if it was not; format 0 had only a verdict on opposite signs."""
    return sign or "opposite" * (verdict == NO_SIGN)


@dataclass(frozen=True)
class FinalCurvature:
    """The curvature at the end of a run, as logged in its metrics; missing values are nan."""

    lambda_1: float
    lambda_2: float
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: str
    trace: float
    loss_rise: float  # at distance 1 along the first eigenvector
    sign: str = ""  # of the ratio; "" in format 0


@dataclass(frozen=True)
class CurvatureResult(ArrayRecord):
    """The curvature at fixed weights on a fixed sample; missing values are nan or empty arrays.

    The fields are the arrays of ``analysis.npz``. A field that is missing from a file takes its default.
    """

    samples: int
    values: Annotated[Floats, "k"]  # eigenvalues of largest magnitude, signed
    residuals: Annotated[Floats, "k"]
    verdict: str  # of the ratio
    probability: float  # upper bound on the probability of a missed eigenvalue
    dtype: str  # precision of the eigenvalues
    products: int  # Hessian-vector products for the eigenvalues
    ratio: Annotated[Floats, 3] = field(default_factory=_nan_interval)  # value, low, high, of the first two
    trace: Annotated[Floats, 3] = field(default_factory=_nan_interval)  # value, low, high
    distances: Annotated[Floats, "d"] = field(default_factory=_empty_line)  # positions along line and plane
    line: Annotated[Floats, "d"] = field(default_factory=_empty_line)  # loss along the first eigenvector
    line_model: Annotated[Floats, "d"] = field(default_factory=_empty_line)  # its quadratic model
    plane: Annotated[Floats, "d", "d"] = field(
        default_factory=_empty_plane
    )  # loss over the first two eigenvectors
    plane_model: Annotated[Floats, "d", "d"] = field(default_factory=_empty_plane)
    grid: Annotated[Floats, "p"] = field(default_factory=_empty_line)  # eigenvalues
    density: Annotated[Floats, "p"] = field(default_factory=_empty_line)
    spread: Annotated[Floats, "p"] = field(default_factory=_empty_line)  # standard error of the density
    change: float = math.nan  # change of the density when the Lanczos steps were doubled
    loss: float = math.nan
    gradient_norm: float = math.nan
    converged: bool = True
    operator: str = "Hessian"
    seed: int = 0  # of the sample
    run: str = ""  # STUDY/RUN, or a weights file; "" in a run's own files
    optimizer: str = ""  # its name in the study
    at: str = "end"  # start, middle or end of the run
    sign: str = ""  # of the ratio: same, opposite or open; "" in format 0, and without a ratio
    format: int = 0  # see `CURVATURE_FORMAT`

    @property
    def loss_rise(self) -> float:
        """Mean rise of the loss at distance 1 on both sides along the first eigenvector; nan without a line."""
        if not len(self.line):
            return math.nan
        outer = (self.line[0] + self.line[-1]) / 2
        return float(outer - self.line[len(self.line) // 2])

    @property
    def final(self) -> FinalCurvature:
        """The numbers that a final run logs."""
        first, second = (*self.values.tolist(), math.nan, math.nan)[:2]
        ratio, low, high = self.ratio.tolist()
        trace = float(self.trace[0])
        return FinalCurvature(first, second, ratio, low, high, self.verdict, trace, self.loss_rise, self.sign)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a number that is not finite is None."""
        content: dict[str, Any] = {
            "run": self.run,
            "at": self.at,
            "eigenvalues": self.values.tolist(),
            "residuals": self.residuals.tolist(),
            "ratio": {
                **_interval(self.ratio),
                "verdict": self.verdict,
                "sign": recorded_sign(self.verdict, self.sign) or None,
            },
            "products": self.products,
            "converged": self.converged,
            "missed_probability": self.probability,
            "dtype": self.dtype,
            "operator": self.operator,
            "samples": self.samples,
            "sample_seed": self.seed,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
        }
        if len(self.values) == 1:
            del content["ratio"]
        if len(self.grid):
            content["trace"] = _interval(self.trace)
        if len(self.line):
            content["loss_rise"] = self.loss_rise
        return dict(replace_nonfinite(content))


def _interval(numbers: Floats) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), numbers.tolist(), strict=True))
