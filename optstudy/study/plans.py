"""From a study's specification to the plan of each run."""

from collections.abc import Mapping
from typing import Any

from optstudy.records.plan import Method, Plan, Split, Trace
from optstudy.records.space import Space
from optstudy.study.specification import Specification

# Trials start from weights that no final run starts from, so the search cannot choose what suits one of those.
TUNING_SEED = 1000


def trial_plan(specification: Specification, space: Space, params: Mapping[str, Any], again: int = 0) -> Plan:
    """The run of one trial, on a part of the training set and judged on another.

    Args:
        specification: What the study is made of.
        space: The optimizer's.
        params: Hyperparameters.
        again: 0 for the trial itself, from 1 on for a finalist that is trained again from another seed.
    """
    tuning = specification.tuning
    return _plan(
        specification,
        space,
        params,
        split=Split("tuning", tuning.validation, tuning.size, specification.seed),
        epochs=tuning.epochs,
        sweep_epochs=(),
        seed=specification.seed + TUNING_SEED * (1 + again),
    )


def final_plan(specification: Specification, space: Space, params: Mapping[str, Any], seed: int) -> Plan:
    """The run of a final seed, on all training images and reported on the test set."""
    training = specification.training
    return _plan(
        specification,
        space,
        params,
        split=Split("final", 0, training.size, specification.seed if training.size else 0),
        epochs=training.epochs,
        sweep_epochs=training.sweep_epochs,
        seed=seed,
        trace=_trace(specification),
    )


def _trace(specification: Specification) -> Trace | None:
    """What of a final run's curvature is measured; the images are the same for all runs of the study."""
    curvature = specification.curvature
    if curvature.samples == 0:
        return None
    samples, last = (None if n == "all" else int(n) for n in (curvature.samples, curvature.last))
    return Trace(samples, last, curvature.every, specification.seed)


def is_paper_setting(specification: Specification) -> bool:
    """Whether model, data and loss are the paper's, so that its numbers may stand beside ours."""
    if specification.training.size:
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
