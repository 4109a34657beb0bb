"""Training as a value: a run is a RunState, and `advance` moves it on. No Optuna, no MLflow, no printing."""

from optstudy.training.advance import advance, run_rung, start
from optstudy.training.evaluation import Evaluation, evaluate, sweep
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
    outcome,
    steps_per_epoch,
)
from optstudy.training.rehearsal import Rehearsal, check_device, rehearse

__all__ = [
    "EpochRecord",
    "Evaluation",
    "History",
    "Method",
    "Moment",
    "Observation",
    "Outcome",
    "Plan",
    "Probe",
    "Rehearsal",
    "RunState",
    "Rung",
    "advance",
    "check_device",
    "evaluate",
    "outcome",
    "rehearse",
    "run_rung",
    "start",
    "steps_per_epoch",
    "sweep",
]
