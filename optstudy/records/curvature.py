"""What was measured of the curvature at fixed weights."""

import dataclasses
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optstudy.records.io import plain

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """What was measured at fixed weights on a fixed sample; what was not is nan, or an empty array."""

    samples: int
    values: Floats  # (2,) eigenvalues of largest magnitude, signed
    residuals: Floats  # (2,)
    ratio: Floats  # (3,) value, low, high
    verdict: str
    probability: float  # of a missed eigenvalue, at most
    dtype: str  # precision that the eigenvalues needed
    products: int  # spent on the eigenvalues
    trace: Floats  # (3,) value, low, high
    distances: Floats  # (41,) of line and plane
    line: Floats  # (41,) loss along the first eigenvector
    line_model: Floats  # (41,) its quadratic model
    plane: Floats  # (41, 41) loss over the first two
    plane_model: Floats  # (41, 41)
    grid: Floats  # (p,) eigenvalues
    density: Floats  # (p,)
    spread: Floats  # (p,) standard error of the density
    change: float  # of the density when the Lanczos steps were doubled

    @property
    def loss_rise(self) -> float:
        """Mean rise of the loss at distance 1 on both sides along the first eigenvector; nan without a line."""
        if not len(self.line):
            return math.nan
        ends = (self.line[0] + self.line[-1]) / 2
        return float(ends - self.line[len(self.line) // 2])

    def to_bytes(self) -> bytes:
        """Serialise as npz without pickles; `from_bytes` gives back the same."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Analysis":
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            values: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        return cls(**{name: value if value.ndim else value.item() for name, value in values.items()})


@dataclass(frozen=True)
class Measured:
    """What was measured of one subject on one sample."""

    name: str
    optimizer: str
    at: str
    samples: int
    seed: int
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    ratio: float
    low: float
    high: float
    verdict: str
    products: int
    converged: bool
    probability: float  # of a missed eigenvalue, at most
    dtype: str
    operator: str
    loss: float
    gradient_norm: float
    analysis: Analysis | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints; a number that is not finite is None."""
        shown: dict[str, Any] = {
            "run": self.name,
            "at": self.at,
            "eigenvalues": list(self.eigenvalues),
            "residuals": list(self.residuals),
            "ratio": {"value": self.ratio, "low": self.low, "high": self.high, "verdict": self.verdict},
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
        if self.analysis is not None and len(self.analysis.grid):
            shown["trace"] = dict(zip(("value", "low", "high"), self.analysis.trace.tolist(), strict=True))
        if self.analysis is not None and len(self.analysis.line):
            shown["loss_rise"] = self.analysis.loss_rise
        found: dict[str, Any] = plain(shown)
        return found
