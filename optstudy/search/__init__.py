"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""

from optstudy.search.importance import importances
from optstudy.search.records import (
    WORST,
    Answer,
    Ask,
    Finalist,
    Searched,
    Settings,
    Trial,
    TrialState,
    best_trial,
    best_trials,
    chosen,
)
from optstudy.search.searching import search
from optstudy.search.translation import config_of, distributions, first_configs

__all__ = [
    "WORST",
    "Answer",
    "Ask",
    "Finalist",
    "Searched",
    "Settings",
    "Trial",
    "TrialState",
    "best_trial",
    "best_trials",
    "chosen",
    "config_of",
    "distributions",
    "first_configs",
    "importances",
    "search",
]
