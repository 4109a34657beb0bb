"""Build the plan of each run from a study's specification."""

from collections.abc import Mapping
from typing import Any

from optstudy.records.plan import DatasetDescription, Method, Plan, Split, Trace
from optstudy.records.space import Range, Space
from optstudy.study.specification import Specification

# Trials and final runs have different initial weights, so that the search cannot overfit the weights of a final run.
TUNING_SEED = 1000


def trial_plan(
    specification: Specification, space: Space, params: Mapping[str, Any], repeat: int = 0
) -> Plan:
    """Return the plan of one trial, trained on one part of the training set and evaluated on another.

    Args:
        specification: The study's specification.
        space: Space of the optimizer.
        params: Hyperparameters.
        repeat: 0 for the trial itself; 1, 2, ... for a finalist that is retrained from another seed.
    """
    tuning = specification.tuning
    return _plan(
        specification,
        space,
        params,
        split=Split("tuning", tuning.validation, tuning.tune_size, specification.seed),
        epochs=tuning.tune_epochs,
        sweep_epochs=(),
        seed=specification.seed + TUNING_SEED * (1 + repeat),
    )


def final_plan(specification: Specification, space: Space, params: Mapping[str, Any], seed: int) -> Plan:
    """Return the plan of one final run, trained on all training images and evaluated on the test set."""
    training = specification.training
    return _plan(
        specification,
        space,
        params,
        split=Split("final", 0, training.train_size, specification.seed if training.train_size else 0),
        epochs=training.train_epochs,
        sweep_epochs=training.sweep_epochs,
        seed=seed,
        trace=_trace(specification),
    )


def variant_plans(specification: Specification, space: Space, *, paper: bool) -> dict[str, Plan]:
    """Return final plans at each end of a range, with each choice and, if ``paper``, the paper's values, by name.

    All other hyperparameters have their defaults.
    """
    variants: dict[str, dict[str, Any]] = {}
    for item in space.search:
        values: dict[str, Any] = (
            {
                f"{item.low:g}, the low end of its range": item.low,
                f"{item.high:g}, the high end of its range": item.high,
            }
            if isinstance(item, Range)
            else {repr(choice): choice for choice in item.choices}
        )
        variants |= {
            f"{item.name} = {name}": {**space.default, item.name: value} for name, value in values.items()
        }
    if paper and space.paper is not None:
        variants["the paper's values"] = space.config("paper")
    return {name: final_plan(specification, space, params, 0) for name, params in variants.items()}


def _trace(specification: Specification) -> Trace | None:
    """Return the settings of a final run's curvature; all runs of the study use the same images."""
    curvature = specification.curvature
    if curvature.samples == 0:
        return None
    samples, last = (None if n == "all" else int(n) for n in (curvature.samples, curvature.eigen_last))
    return Trace(samples, last, curvature.eigen_every, specification.seed)


def split_sizes(plan: Plan, data: DatasetDescription) -> tuple[int, int]:
    """Return the numbers of training and held-out images of a plan."""
    if plan.split.role == "final":
        return plan.split.size or data.train, data.test
    return plan.split.size or data.train - plan.split.validation, plan.split.validation


def is_paper_setting(specification: Specification) -> bool:
    """Whether model, data and loss are those of the paper, so that results are comparable to its Table I."""
    if specification.training.train_size:
        return False
    return (specification.dataset, specification.model, specification.loss) == (
        "mnist",
        "lenet5",
        "cross_entropy",
    )


def _plan(
    specification: Specification,
    space: Space,
    params: Mapping[str, Any],
    *,
    split: Split,
    epochs: int,
    sweep_epochs: tuple[int, ...],
    seed: int,
    trace: Trace | None = None,
) -> Plan:
    return Plan(
        dataset=specification.dataset,
        split=split,
        model=specification.model,
        loss=specification.loss,
        method=Method(
            optimizer=space.optimizer,
            arguments=space.arguments(params),
            needs=space.needs,
            seeded=space.seeded,
            hessian_products=space.hessian_products,
        ),
        epochs=epochs,
        sweep_epochs=sweep_epochs,
        batch_size=specification.batch_size,
        seed=seed,
        device=specification.device,
        threads=specification.threads,
        trace=trace,
        deterministic=specification.deterministic,
    )
