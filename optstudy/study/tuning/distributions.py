"""Convert search spaces and configurations to and from Optuna's."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optstudy.records.space import Choice, Range, Space


def first_configs(space: Space) -> list[dict[str, Any]]:
    """Return the paper's and the default configuration, if they lie in the space."""
    default = space.config("default")
    paper = default if space.paper is None else space.config("paper")
    inside = [config for config in (paper, default) if space.contains(config)]
    return inside[:1] if paper == default else inside


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's distributions of a space; a hyperparameter searched as 1 - x is named ``1 - x``."""
    result: dict[str, BaseDistribution] = {}
    for item in space.search:
        if isinstance(item, Choice):
            result[item.name] = CategoricalDistribution(item.choices)
        elif item.integer:
            result[item.name] = IntDistribution(int(item.low), int(item.high), log=item.log)
        elif item.complement:
            result[f"1 - {item.name}"] = FloatDistribution(1 - item.high, 1 - item.low, log=item.log)
        else:
            result[item.name] = FloatDistribution(item.low, item.high, log=item.log)
    return result


def from_optuna(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Convert Optuna's values to hyperparameters."""
    return {item.name: _hyperparameter(item, values) for item in space.search}


def _hyperparameter(item: Range | Choice, values: dict[str, Any]) -> Any:
    if isinstance(item, Choice):
        return values[item.name]
    # Rounded, so that 1 - (1 - 0.1) is exactly 0.1; clamped, since rounding may leave the range.
    value = round(1 - values[f"1 - {item.name}"], 12) if item.complement else values[item.name]
    return min(max(value, item.low), item.high)


def to_optuna(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    """Convert hyperparameters to Optuna's values."""
    return {
        name: 1 - config[name[4:]] if name.startswith("1 - ") else config[name]
        for name in distributions(space)
    }
