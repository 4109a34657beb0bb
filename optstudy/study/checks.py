"""Checks before the work of a study starts: names, splits and batch size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optstudy.errors import UsageError
from optstudy.execution.flows import Task, Workers, run_all
from optstudy.records.plan import DatasetDescription, Plan, Split, steps_per_epoch
from optstudy.study.keys import KEYS
from optstudy.study.plans import split_sizes
from optstudy.study.specification import Specification
from optstudy.training import check_device
from optstudy.workloads.datasets import check_dataset, check_reloaded, load_description
from optstudy.workloads.models import check_model, load_loss
from optstudy.workloads.splits import load_split

_CHECKS: Mapping[str, Callable[[str], object]] = {
    "model": check_model,
    "loss": load_loss,
    "dataset": check_dataset,
    "device": check_device,
}


def check_names(keys: Mapping[str, Any]) -> None:
    """Check that the given model, loss, data set and device exist.

    Raises:
        UsageError: If one of them does not exist.
    """
    for key, check in _CHECKS.items():
        if key in keys:
            check(keys[key])


def check_plans(workers: Workers, plans: Sequence[Plan]) -> tuple[DatasetDescription, list[str]]:
    """Load the plans' data set on a worker, check that it is large enough for each plan, and describe it.

    Returns:
        The description, and what the user should know about the data.

    Raises:
        UsageError: If a split or a mini-batch is larger than the data set, or all training labels are the same.
    """
    reference = plans[0].dataset
    splits = list(dict.fromkeys(plan.split for plan in plans))
    task = Task(describe_data, (reference, splits), name=f"loading {reference}")
    data: DatasetDescription
    [(data, remarks)] = run_all([task], workers)
    for plan in plans:
        _check_batch_size(plan, data)
    return data, remarks


def describe_data(reference: str, splits: Sequence[Split]) -> tuple[DatasetDescription, list[str]]:
    """Load a data set twice, check that it can be split, and describe it and remark on it; a worker's task."""
    data, remarks = load_description(reference), []
    check_reloaded(reference)
    for split in splits:
        (_, labels), (_, heldout) = load_split(reference, split)
        run, part = ("a trial", "validation") if split.role == "tuning" else ("a final run", "test")
        if bool((labels == labels[0]).all()):
            raise UsageError(
                f"all {len(labels):,} training examples of {run} are of class {data.classes[int(labels[0])]!r};"
                " train on examples of at least two classes"
            )
        if bool((heldout == heldout[0]).all()):
            remarks.append(
                f"all {len(heldout):,} {part} examples of {run} are of class {data.classes[int(heldout[0])]!r}"
            )
        remarks += [
            f"class {data.classes[label]!r} has no training example in {run}, but {count} of its {part} examples"
            for label, count in enumerate(heldout.bincount().tolist())
            if count and not (labels == label).any()
        ]
    return data, remarks


def unreachable_settings(
    specification: Specification, data: DatasetDescription, *, tuning: bool, training: bool
) -> list[str]:
    """Return a remark for each setting that is larger than what there is, and what is done in its place.

    Settings that have their default are not remarked on.
    """
    tuned, trained, curved = specification.tuning, specification.training, specification.curvature
    images = trained.train_size or data.train
    steps = trained.train_epochs * steps_per_epoch(images, specification.batch_size)
    last = steps if isinstance(curved.eigen_last, str) else min(curved.eigen_last, steps)
    tracked = last if training and curved.samples != 0 else 0
    learns = tuning and tuned.sampler in ("tpe", "gp")
    remarks: list[tuple[bool, str, Any, int, str]] = [
        (
            tuning,
            "finalists",
            tuned.finalists,
            tuned.rounded_trials,
            "trials: all that complete are retrained",
        ),
        (tuning, "rung_epochs", tuned.rung_epochs, tuned.tune_epochs, "epochs: no trial is stopped early"),
        (
            training,
            "sweep_every",
            trained.sweep_every,
            trained.train_epochs,
            "epochs: only the last is swept",
        ),
        (
            learns,
            "startup_trials",
            tuned.startup_trials,
            tuned.rounded_trials,
            "trials: all are drawn at random",
        ),
        (training, "samples", curved.samples, images, "training examples: curvature is measured on all"),
        (tracked > 0, "eigen_last", curved.eigen_last, steps, "steps: eigenvalues are tracked in all"),
        (
            tracked > 0,
            "eigen_every",
            curved.eigen_every,
            tracked,
            "steps to track: eigenvalues are measured once",
        ),
    ]
    return [
        f"{key} is {value:,}, but there are only {limit:,} {result}"
        for applies, key, value, limit, result in remarks
        if applies and isinstance(value, int) and value > limit and value != KEYS[key].default
    ]


def _check_batch_size(plan: Plan, data: DatasetDescription) -> None:
    images, _ = split_sizes(plan, data)
    if plan.batch_size > images:
        run = "a trial" if plan.split.role == "tuning" else "a final run"
        raise UsageError(
            f"batch_size is {plan.batch_size}, but {run} trains on {images} examples; use at most {images}"
        )
