"""Checks before the work of a study starts: names, splits and batch size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optstudy.errors import UsageError
from optstudy.execution.flows import Task, Workers, run_all
from optstudy.records.plan import DatasetDescription, Plan, Split
from optstudy.study.plans import split_sizes
from optstudy.training import check_device
from optstudy.workloads.datasets import check_dataset, load_description
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


def check_plans(workers: Workers, plans: Sequence[Plan]) -> DatasetDescription:
    """Load the plans' data set on a worker, check that it is large enough for each plan, and describe it.

    Raises:
        UsageError: If a split or a mini-batch is larger than the data set.
    """
    reference = plans[0].dataset
    splits = list(dict.fromkeys(plan.split for plan in plans))
    task = Task(describe_data, (reference, splits), name=f"loading {reference}")
    data: DatasetDescription = run_all([task], workers)[0]
    for plan in plans:
        _check_batch_size(plan, data)
    return data


def describe_data(reference: str, splits: Sequence[Split]) -> DatasetDescription:
    """Load a data set, check that it can be split, and describe it; a worker's task."""
    for split in splits:
        load_split(reference, split)
    return load_description(reference)


def _check_batch_size(plan: Plan, data: DatasetDescription) -> None:
    images, _ = split_sizes(plan, data)
    if plan.batch_size > images:
        run = "a trial" if plan.split.role == "tuning" else "a final run"
        raise UsageError(
            f"batch_size is {plan.batch_size}, but {run} trains on {images} images; use at most {images}"
        )
