"""The metrics and tags of runs in MLflow: names, units, and how each final metric is computed."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from optstudy.records.curvature import CurvatureResult, FinalCurvature
from optstudy.records.eigen_trace import eigen_trace
from optstudy.records.provenance import Provenance
from optstudy.records.run import CostToTarget, EpochRecord, Observation

FINAL_PREFIX = "final/"  # prefix of final metrics
TRAIN_ACCURACY, TEST_ACCURACY = "final/train_accuracy_pct", "final/test_accuracy_pct"
STEP_SECONDS = "final/step_seconds"  # timed when all final runs have ended
TRIAL_WORK = "gradient_work"  # of a trial or a finalist
LONGEST_TAG = 5000  # characters; MLflow truncates at 8000
BEST_SCORE = "validation/{objective}"  # of a search, the best score so far


class Tag:
    """Names of the tags of runs."""

    PREFIX = "optstudy."  # of all of them
    STUDY = "optstudy.study"  # the study's name
    RUN = "optstudy.run"  # the run's name within the study, also after it was renamed in MLflow
    KIND = "optstudy.kind"  # search, trial, finalist, final or report
    KEY = "optstudy.key"  # hash of everything that determines the run
    # Hash of what a study began with, of a run and of its experiment.
    SPECIFICATION = "optstudy.specification"
    SPACE = "optstudy.space"  # hash of the space of a search
    OUTCOME = "optstudy.outcome"  # completed, diverged, pruned, failed or interrupted
    PROBLEM = "optstudy.problem"  # why a run failed
    CURVATURE_PROBLEM = "optstudy.curvature_problem"  # why the curvature at the end of a run is missing
    TRACE_PROBLEM = "optstudy.trace_problem"  # why the eigenvalues of a run's last steps are missing
    SUPERSEDED = "optstudy.superseded"  # "true" if the search has since selected another configuration
    TARGET = "optstudy.target"  # Specification.target
    MARGIN = "optstudy.margin"  # Specification.margin
    PAPER_SETTING = "optstudy.paper_setting"  # "true" if model and data are the paper's
    VERDICT = "optstudy.ratio_verdict"  # FinalCurvature.verdict
    SIGN = "optstudy.ratio_sign"  # FinalCurvature.sign
    CURVATURE_FORMAT = "optstudy.curvature_format"  # CurvatureResult.format of the curvature at the end
    CHECKSUMS = "optstudy.checksums"  # of files, final metrics, parameters and tags: `Checksums`
    PACE_CHECKSUM = "optstudy.checksum_of_step_seconds"  # logged with STEP_SECONDS
    DATA = "optstudy.data"  # checksum of the data set
    SOURCES = "optstudy.sources"  # hashes of the user's files, as JSON
    VERSION = "optstudy.version."  # followed by the name of a package
    ENVIRONMENT = "optstudy.environment."  # followed by the name of an entry of `Provenance.environment`


@dataclass(frozen=True)
class RunResults:
    """The results of a run from which its final metrics are computed."""

    epochs: Sequence[EpochRecord]
    observations: Sequence[Observation] = ()
    curvature: CurvatureResult | None = None
    target: float | None = None  # test accuracy, a fraction

    @property
    def cost_to_target(self) -> CostToTarget | None:
        """The cost until the test accuracy first reached the target; None if it never did."""
        seconds = work = 0.0
        for count, record in enumerate(self.epochs, 1):
            seconds, work = seconds + record.seconds, work + record.gradient_work
            if self.target is not None and record.heldout_accuracy >= self.target:
                return CostToTarget(float(count), seconds, work)
        return None


@dataclass(frozen=True)
class Metric:
    """A metric of a run in MLflow.

    A new final metric needs only an entry in `FINAL` to be written, read, archived, and compared between a run and
    its rerun.
    """

    name: str
    unit: str  # "%" for a fraction logged in per cent; "" for a number without a unit
    field: str = ""  # of EpochRecord, Observation or FinalRun; "" for an item of FinalRun.metrics
    # Computes a final metric; None if it is logged elsewhere.
    value: Callable[[RunResults], float | None] | None = None
    # Whether a rerun gives the same value: false for times, and for values that depend on the study.
    reproducible: bool = True

    @property
    def short_name(self) -> str:
        """The name without its prefix."""
        return self.field.rpartition(".")[2] or self.name.rpartition("/")[2]

    def lookup(self, run: Mapping[str, Any]) -> Any:
        """Return the value from the fields of a FinalRun; None if it was not recorded."""
        record, nested, name = self.field.rpartition(".")
        if nested:
            return getattr(run.get(record), name, None)
        return run.get(self.field) if self.field else run.get("metrics", {}).get(self.name)


def _separated_share(results: RunResults) -> float | None:
    trace = eigen_trace(results.observations)
    return None if trace is None else float((trace.verdict == "separated").mean())


def _curvature_metric(name: str, unit: str = "") -> Metric:
    return Metric(
        f"final/{name}",
        unit,
        f"curvature.{name}",
        lambda results: None if results.curvature is None else getattr(results.curvature.final, name),
    )


def _cost_metric(name: str, unit: str, field: str) -> Metric:
    return Metric(
        f"final/{name}",
        unit,
        f"cost_to_target.{field}",
        lambda results: getattr(results.cost_to_target, field, None),
        reproducible=False,  # the target belongs to the study, not to the run
    )


FINAL = (
    Metric(TRAIN_ACCURACY, "%", "train_accuracy", lambda results: results.epochs[-1].exact_accuracy or 0.0),
    Metric(TEST_ACCURACY, "%", "test_accuracy", lambda results: results.epochs[-1].heldout_accuracy),
    Metric("final/separated", "share of steps", "separated", _separated_share),
    _curvature_metric("lambda_1"),
    _curvature_metric("lambda_2"),
    _curvature_metric("ratio"),
    _curvature_metric("ratio_low"),
    _curvature_metric("ratio_high"),
    _curvature_metric("trace"),
    _curvature_metric("loss_rise"),
    Metric(
        "final/steps", "steps", "steps", lambda results: sum(record.step_count for record in results.epochs)
    ),
    Metric(
        "final/gradient_work",
        "passes",
        "gradient_work",
        lambda results: sum(record.gradient_work for record in results.epochs),
    ),
    Metric(
        "final/seconds",
        "s",
        "seconds",
        lambda results: sum(record.seconds for record in results.epochs),
        reproducible=False,
    ),
    Metric(STEP_SECONDS, "s", "step_seconds", reproducible=False),
    _cost_metric("epochs_to_target", "epochs", "epochs"),
    _cost_metric("seconds_to_target", "s", "seconds"),
    _cost_metric("work_to_target", "passes", "gradient_work"),
)

EPOCH = (  # of an EpochRecord; the held-out images are those of `validation` or `test`
    Metric("train/loss", "", "train_loss"),
    Metric("train/accuracy", "fraction", "train_accuracy"),
    Metric("gradient_norm", "", "gradient_norm"),
    Metric("{heldout}/loss", "", "heldout_loss"),
    Metric("{heldout}/accuracy", "fraction", "heldout_accuracy"),
    Metric("train/exact_loss", "", "exact_loss"),
    Metric("train/exact_accuracy", "fraction", "exact_accuracy"),
    Metric("full_gradient_norm", "", "full_gradient_norm"),
    Metric("epoch_seconds", "s", "seconds", reproducible=False),
)

STEP = {  # of an Observation, by its probe
    "eigen": (
        Metric("eigen/lambda_1", "", "lambda_1"),
        Metric("eigen/lambda_2", "", "lambda_2"),
        Metric("eigen/ratio", "", "ratio"),
        Metric("eigen/residual", "", "residual_1"),
    ),
    "preconditioned": (Metric("eigen/preconditioned_lambda_1", "", "lambda_1"),),
}


def to_percent(accuracy: float) -> float:
    """Convert a fraction to per cent, as it is logged, since MLflow's pages show four digits."""
    return round(100 * accuracy, 9)


def from_percent(metric: float) -> float:
    """Convert a metric in per cent to a fraction; the inverse of `to_percent`."""
    return round(metric / 100, 12)


def final_metrics(results: RunResults) -> dict[str, float]:
    """Return the final metrics of a run by name, without unknown or non-finite values."""
    values = {metric: metric.value(results) for metric in FINAL if metric.value is not None}
    return {
        metric.name: to_percent(value) if metric.unit == "%" else float(value)
        for metric, value in values.items()
        if value is not None and math.isfinite(value)
    }


def read_final_metrics(metrics: Mapping[str, float], verdict: str, sign: str = "") -> dict[str, Any]:
    """Return the fields of a FinalRun that are stored as metrics.

    Args:
        metrics: MLflow's metrics.
        verdict: The tag `Tag.VERDICT`; "" if the run has none.
        sign: The tag `Tag.SIGN`, likewise.
    """
    converters: Mapping[str, Callable[[float], float]] = {"%": from_percent, "steps": int}
    values = {
        metric: converters.get(metric.unit, float)(metrics[metric.name])
        for metric in FINAL
        if metric.name in metrics
    }

    def nested_fields(record: str) -> dict[str, Any]:
        return {
            metric.short_name: value
            for metric, value in values.items()
            if metric.field.startswith(f"{record}.")
        }

    run: dict[str, Any] = {
        metric.field: v for metric, v in values.items() if metric.field and "." not in metric.field
    }
    run["metrics"] = {metric.name: value for metric, value in values.items() if not metric.field}
    if "lambda_1" in (curvature := nested_fields("curvature")):
        unmeasured = {field.name: math.nan for field in fields(FinalCurvature)}
        words = {"verdict": verdict or "unresolved", "sign": sign}
        run["curvature"] = FinalCurvature(**unmeasured | curvature | words)
    if len(cost := nested_fields("cost_to_target")) == len(fields(CostToTarget)):
        run["cost_to_target"] = CostToTarget(**cost)
    return run


def step_metrics(observations: Sequence[Observation]) -> list[tuple[str, float, int]]:
    """Return the finite metrics of single steps: name, value and step."""
    return [
        (metric.name, value, observation.step)
        for observation in observations
        for metric in STEP.get(observation.probe, ())
        if isinstance(value := observation.values.get(metric.field), float)
    ]


def epoch_metrics(record: EpochRecord, heldout: str) -> list[tuple[str, float, int, float]]:
    """Return the metrics of one epoch: name, value, step and Unix time.

    Args:
        record: The epoch.
        heldout: The kind of held-out images, ``validation`` or ``test``.
    """
    values = {metric.name.format(heldout=heldout): getattr(record, metric.field) for metric in EPOCH}
    return [(n, v, record.epoch, record.finished_at) for n, v in values.items() if v is not None]


def provenance_tags(provenance: Provenance) -> dict[str, str]:
    """Return the tags that record a provenance, without the user's files if they are too many for a tag."""
    sources = json.dumps(dict(provenance.sources or {}), sort_keys=True)
    return {
        Tag.DATA: provenance.data,
        **({Tag.SOURCES: sources} if len(sources) <= LONGEST_TAG else {}),
        **{f"{Tag.VERSION}{name}": version for name, version in provenance.versions.items()},
        **{f"{Tag.ENVIRONMENT}{name}": value for name, value in provenance.environment.items()},
    }


def read_provenance(tags: Mapping[str, str]) -> Provenance:
    """Read a provenance from tags; the inverse of `provenance_tags`."""
    versions, environment = (
        {name.removeprefix(kind): value for name, value in tags.items() if name.startswith(kind)}
        for kind in (Tag.VERSION, Tag.ENVIRONMENT)
    )
    try:
        sources = dict(json.loads(tags.get(Tag.SOURCES, "")))
    except (ValueError, TypeError):
        sources = None  # not recorded, or the tag was edited
    return Provenance(versions, environment, tags.get(Tag.DATA, ""), sources)
