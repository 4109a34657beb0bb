"""The request of `optstudy curvature`."""

from dataclasses import dataclass
from pathlib import Path

from optstudy.errors import UsageError

STAGES = ("start", "middle", "end")


@dataclass(frozen=True)
class CurvatureRequest:
    """The weights to measure, the training images to use, and the quantities to compute."""

    target: str | None = None  # a study, STUDY/RUN or run ID
    checkpoint: Path | None = None  # weights to measure instead of a run's
    model: str | None = None
    dataset: str | None = None
    loss: str | None = None
    device: str | None = None
    samples: int | str | None = None  # number, or "all"; by default the run's own sample
    indices: Path | None = None  # a file of image indices
    sweep: tuple[int | str, ...] = ()
    draws: int | None = None  # samples of each size in a sweep
    at: tuple[str, ...] = ("end",)
    k: int = 2
    dtype: str | None = None  # float32 or float64; None for the model's, or float64 if needed
    density: bool = False  # also estimate the spectrum and trace
    landscape: bool = False  # also evaluate the loss along the first two eigenvectors
    trust: bool = False  # import the code that runs on a server name

    def __post_init__(self) -> None:
        if (self.target is None) == (self.checkpoint is None):
            raise UsageError("give either a run or study, or --checkpoint FILE")
        described = [name for name in ("model", "dataset", "loss") if getattr(self, name) is not None]
        if self.target is not None and described:
            raise UsageError(f"--{described[0]} goes with --checkpoint; a run records its own")
        if self.checkpoint is not None and self.at != ("end",):
            raise UsageError("--at goes with runs; a checkpoint has no start or middle")
        if (self.samples is not None) + (self.indices is not None) + bool(self.sweep) > 1:
            raise UsageError("--samples, --indices and --sweep exclude each other")
        if self.draws is not None and not self.sweep:
            raise UsageError("--draws goes with --sweep")
        if self.sweep and (self.density or self.landscape):
            raise UsageError("--density and --landscape go with one sample, not with --sweep")
        if self.sweep and self.k == 1:
            raise UsageError("-k is 1; a sweep compares two eigenvalues, so give 2 or more")
        for point in self.at:
            if point not in STAGES:
                raise UsageError(f"--at has {point!r}; it takes {', '.join(STAGES)}")
