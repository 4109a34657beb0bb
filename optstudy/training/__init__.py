"""Training as a value: a run is a RunState, and `advance` moves it on. No Optuna, no MLflow, no printing."""

from optstudy.training.advance import advance, run_rung, start
from optstudy.training.evaluation import Evaluation, evaluate, sweep
from optstudy.training.numerics import joined, machine, numerics
from optstudy.training.records import (
    EpochRecord,
    History,
    Method,
    Moment,
    Observation,
    Outcome,
    Plan,
    Probe,
    Rung,
    RunState,
    Trace,
    outcome,
    steps_per_epoch,
)
from optstudy.training.rehearsal import Rehearsal, check_device, rehearse
from optstudy.training.timing import time_steps
from optstudy.training.trace import Images, images_of, probes_of, sample_images

__all__ = [
    "EpochRecord",
    "Evaluation",
    "History",
    "Images",
    "Method",
    "Moment",
    "Observation",
    "Outcome",
    "Plan",
    "Probe",
    "Rehearsal",
    "RunState",
    "Rung",
    "Trace",
    "advance",
    "check_device",
    "evaluate",
    "images_of",
    "joined",
    "machine",
    "numerics",
    "outcome",
    "probes_of",
    "rehearse",
    "run_rung",
    "sample_images",
    "start",
    "steps_per_epoch",
    "sweep",
    "time_steps",
]
