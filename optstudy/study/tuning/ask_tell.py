"""A deterministic generator around Optuna's samplers and pruners: it suggests trials and receives their results."""

import warnings
from collections.abc import Generator
from dataclasses import replace

import optuna

from optstudy.records.search import WORST, Trial
from optstudy.records.space import Space
from optstudy.study.specification import TuningSettings
from optstudy.study.tuning.distributions import distributions, first_configs, from_optuna, to_optuna
from optstudy.study.tuning.journal import Journal

SearchGenerator = Generator[list[Trial], list[Trial] | None, tuple[Trial, ...]]


def search(
    space: Space, settings: TuningSettings, seed: int, journal: Journal | None = None
) -> SearchGenerator:
    """Search one optimizer's space, whole batches at a time.

    The generator is deterministic: the same results give the same trials. It yields the trials to train to the end
    of their next rung, all in the state "running", and receives them in the same order with updated state, score,
    epochs and work. At the end of each batch it yields the batch's finished trials. Optuna suggests all trials of a
    batch before it receives any result, and receives results in the order of the trials' numbers, so the search does
    not depend on the order in which they were trained.

    Args:
        space: The search space. The first trials are its paper and default configurations, if they lie in the space.
        settings: Settings of the search.
        seed: Seed of the sampler.
        journal: Journal to which finished trials are copied, for dashboards.

    Returns:
        All trials, in the order of their numbers.
    """
    study = _study(space, settings)
    ended: list[Trial] = []
    while len(ended) < settings.trials:
        study.sampler = make_sampler(settings, seed, len(ended))
        suggested = [study.ask(distributions(space)) for _ in range(settings.batch)]
        batch = {
            new.number: Trial(new.number, from_optuna(space, new.params), "running", None, (), 0, 0.0)
            for new in suggested
        }
        while running := [trial for trial in batch.values() if trial.state == "running"]:
            reported = yield running
            assert reported is not None
            for trial in reported:
                batch[trial.number] = _report(study, suggested[trial.number - len(ended)], trial, settings)
        ended += batch.values()
        if journal is not None:
            journal.mirror(study)
        yield list(batch.values())
    return tuple(ended)


def _study(space: Space, settings: TuningSettings) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=space.name,  # Hyperband hashes it
        direction="maximize" if settings.objective == "accuracy" else "minimize",
        pruner=_pruner(settings),
    )
    for config in first_configs(space):
        study.enqueue_trial(to_optuna(space, config))
    return study


def make_sampler(settings: TuningSettings, study_seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the batch that follows a number of trials."""
    # A sampler's state is lost with its process, so each batch has a new one, seeded by the number of earlier trials.
    seed = (study_seed * 1_000_003 + trials) % 2**32
    startup = settings.startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # for GP and QMC
        match settings.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
            case "gp":
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=startup, deterministic_objective=False
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case _:
                # One sequence for all batches; the study stores its position.
                # Its first trial is sampled at random, from a new stream in each batch.
                return optuna.samplers.QMCSampler(
                    seed=study_seed,
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )


def _pruner(settings: TuningSettings) -> optuna.pruners.BasePruner:
    match settings.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials)
        case "hyperband":
            # "auto" would prune nothing before a trial completes.
            return optuna.pruners.HyperbandPruner(
                min_resource=settings.rung_epochs, max_resource=settings.tune_epochs
            )
        case _:
            return optuna.pruners.NopPruner()


def _report(study: optuna.Study, suggested: optuna.Trial, trial: Trial, settings: TuningSettings) -> Trial:
    """Report a rung to Optuna; return the trial, with its final state if it has ended."""
    if trial.state == "failed":
        study.tell(suggested, state=optuna.trial.TrialState.FAIL)
        return trial
    worst = WORST[settings.objective]
    if trial.state == "diverged" or trial.score is None:
        study.tell(suggested, worst)
        return replace(trial, state="diverged", score=None)
    score = trial.score if settings.objective == "accuracy" else min(trial.score, worst)
    suggested.report(score, step=trial.epochs)
    if trial.state == "completed":
        study.tell(suggested, score)
    elif suggested.should_prune():  # Hyperband modifies the trial, so call this only once
        study.tell(suggested, state=optuna.trial.TrialState.PRUNED)
        return replace(trial, state="pruned")
    return trial
