"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""

from optstudy.study.tuning.ask_tell import search
from optstudy.study.tuning.distributions import config_of, distributions, first_configs
from optstudy.study.tuning.importance import importances

__all__ = [
    "config_of",
    "distributions",
    "first_configs",
    "importances",
    "search",
]
