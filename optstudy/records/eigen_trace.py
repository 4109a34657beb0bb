"""The largest eigenvalues at the last steps of a run, as arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray

from optstudy.errors import OptstudyError
from optstudy.records.arrays import ArrayRecord
from optstudy.records.curvature import recorded_sign
from optstudy.records.run import Observation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EigenTrace(ArrayRecord):
    """The tracker's results at each of ``s`` steps; see `optstudy.curvature.EigenTracker`."""

    step: Annotated[NDArray[np.int64], "s"]  # counted from 0 over the run; measured before the step is taken
    values: Annotated[Floats, "s", 2]
    residuals: Annotated[Floats, "s", 2]
    ratio: Annotated[Floats, "s"]
    low: Annotated[Floats, "s"]
    high: Annotated[Floats, "s"]
    verdict: Annotated[NDArray[np.str_], "s"]
    sign: Annotated[NDArray[np.str_], "s"]  # of the ratio; "" where it was not recorded
    verified: Annotated[NDArray[np.bool_], "s"]
    probability: Annotated[Floats, "s"]  # bound on the probability of a missed value; nan where not verified
    angle: Annotated[Floats, "s"]  # radians, to the eigenspace at the previous step
    gradient_share: Annotated[Floats, "s"]
    products: Annotated[Floats, "s"]
    preconditioned_step: Annotated[NDArray[np.int64], "p"]
    preconditioned: Annotated[Floats, "p"]  # first eigenvalue of the preconditioned Hessian

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], where: str) -> Self:
        """Build the trace from the arrays of a file; one of format 0 has no signs."""
        verdicts = np.asarray(arrays.get("verdict", ""))
        signs = np.array([recorded_sign(str(verdict), "") for verdict in verdicts.ravel()], dtype=np.str_)
        return super().from_arrays({"sign": signs, **arrays}, where)


FORMAT = "format"  # of an observation's values, and of a tracker's state; see `CURVATURE_FORMAT`
_VALUES = {
    **dict.fromkeys(
        ("lambda_1", "lambda_2", "residual_1", "residual_2", "ratio", "ratio_low", "ratio_high"), float
    ),
    **dict.fromkeys(("verified", "probability", "angle", "gradient_share", "products"), float),
    "verdict": str,
    "sign": str,
}  # of an observation of the probe `eigen`, by name
_ADDED = {"sign": ""}  # since format 0


def trace_problem(observations: Sequence[Observation]) -> str:
    """Return why eigenvalues are missing from a run's trace; "" if none are."""
    reasons = {o.probe: o.problem for o in observations if o.problem}
    return next(iter(reasons.values()), "")


def format_change(observations: Sequence[Observation]) -> int | None:
    """Return the first step that was tracked in another format than the steps before; None if there is none."""
    tracked = [o for o in observations if o.probe == "eigen" and "lambda_1" in o.values]
    formats = [o.values.get(FORMAT, 0) for o in tracked]
    return next((o.step for o, kind in zip(tracked, formats, strict=True) if kind != formats[0]), None)


def check_observations(observations: Sequence[Observation]) -> None:
    """Check that each tracked step has all values of a trace.

    Raises:
        OptstudyError: If one is missing or of the wrong type.
    """
    for observation in observations:
        if observation.probe not in ("eigen", "preconditioned") or "lambda_1" not in observation.values:
            continue
        names = dict.fromkeys(("lambda_1",), float) if observation.probe == "preconditioned" else _VALUES
        for name, kind in names.items():
            value = observation.values.get(name, _ADDED.get(name, ()))
            if not (value is None or isinstance(value, kind) or (kind is float and isinstance(value, int))):
                raise OptstudyError(f"{name} of the observation at step {observation.step} is {value!r}")


def eigen_trace(observations: Sequence[Observation]) -> EigenTrace | None:
    """Gather the trackers' observations as arrays; None if no eigenvalues were tracked, or not at all steps.

    The steps before a failure are left out, too, since a part of the steps would stand for all of them.
    """
    failed = {o.probe for o in observations if o.problem}
    observations = [o for o in observations if o.probe not in failed]
    tracked = [o for o in observations if o.probe == "eigen" and "lambda_1" in o.values]
    preconditioned = [o for o in observations if o.probe == "preconditioned" and "lambda_1" in o.values]
    if not tracked:
        return None

    def column(*names: str) -> Any:
        rows = [[math.nan if o.values[name] is None else o.values[name] for name in names] for o in tracked]
        return np.array(rows if len(names) > 1 else [row[0] for row in rows])

    return EigenTrace(
        step=np.array([o.step for o in tracked]),
        values=column("lambda_1", "lambda_2"),
        residuals=column("residual_1", "residual_2"),
        ratio=column("ratio"),
        low=column("ratio_low"),
        high=column("ratio_high"),
        verdict=column("verdict"),
        sign=np.array(
            [recorded_sign(str(o.values["verdict"]), str(o.values.get("sign") or "")) for o in tracked]
        ),
        verified=column("verified").astype(bool),
        probability=column("probability"),
        angle=column("angle"),
        gradient_share=column("gradient_share"),
        products=column("products"),
        preconditioned_step=np.array([o.step for o in preconditioned], dtype=np.int64),
        preconditioned=np.array([o.values["lambda_1"] for o in preconditioned], dtype=np.float64),
    )
