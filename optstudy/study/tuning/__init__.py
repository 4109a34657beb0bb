"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""

from optstudy.study.tuning.ask_tell import search
from optstudy.study.tuning.distributions import distributions, first_configs, from_optuna
from optstudy.study.tuning.importance import importances

__all__ = [
    "distributions",
    "first_configs",
    "from_optuna",
    "importances",
    "search",
]
