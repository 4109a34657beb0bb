"""Training as a pure function: `advance` maps a `RunState` to a later one, without Optuna, MLflow or output."""

from optstudy.training.advance import advance, run_rung, run_verified_rung, start
from optstudy.training.evaluation import Evaluation, evaluate, sweep
from optstudy.training.numerics import machine, numerics
from optstudy.training.probes import ImageBatches, as_batches, build_probes, sample_images
from optstudy.training.rehearsal import Rehearsal, check_device, rehearse
from optstudy.training.state import Probe, RunState, StepContext, outcome
from optstudy.training.timing import time_steps

__all__ = [
    "Evaluation",
    "ImageBatches",
    "Probe",
    "Rehearsal",
    "RunState",
    "StepContext",
    "advance",
    "as_batches",
    "build_probes",
    "check_device",
    "evaluate",
    "machine",
    "numerics",
    "outcome",
    "rehearse",
    "run_rung",
    "run_verified_rung",
    "sample_images",
    "start",
    "sweep",
    "time_steps",
]
