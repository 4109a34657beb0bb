"""Importance of each hyperparameter for the scores of a search."""

import math
import random

import optuna

from optstudy.records.search import SearchResult
from optstudy.study.tuning.distributions import distributions, to_optuna

MAX_TRIALS = 1000  # fANOVA takes 20 s for so many, and minutes for a few thousand


def importances(search: SearchResult, seed: int) -> dict[str, float]:
    """Return each hyperparameter's share of the variance of the score (fANOVA; Hutter et al., 2014).

    Of a search with more than `MAX_TRIALS` completed trials, so many are drawn at random.

    Returns:
        Shares by Optuna's names, summing to 1; empty if all completed trials have the same score.
    """
    trials = [trial for trial in search.trials if trial.state == "completed" and trial.score is not None]
    if len({trial.score for trial in trials}) < 2:  # noqa: PLR2004  # no variance to attribute
        return {}
    if len(trials) > MAX_TRIALS:
        trials = random.Random(seed).sample(trials, MAX_TRIALS)  # noqa: S311  # a sample, no secret
    study = optuna.create_study(direction="maximize" if search.objective == "accuracy" else "minimize")
    for trial in trials:
        params = to_optuna(search.space, trial.params)
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions(search.space), value=trial.score
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in shares.items() if math.isfinite(share)}
