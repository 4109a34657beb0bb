"""The search itself: a deterministic program that asks, and is told."""

import warnings
from collections.abc import Generator
from pathlib import Path

import optuna

from optstudy.records.search import WORST, Searched, Trial, TrialState, best_trial
from optstudy.records.space import Space
from optstudy.study.specification import TuningSettings
from optstudy.study.tuning.distributions import asked_of, config_of, distributions, first_configs
from optstudy.study.tuning.journal import mirror
from optstudy.study.tuning.messages import Answer, Ask

Searching = Generator[list[Ask] | tuple[Trial, ...], list[Answer] | None, Searched]


def search(space: Space, settings: TuningSettings, seed: int, journal: Path | None = None) -> Searching:
    """Search one optimizer's space, whole batches at a time.

    A deterministic program: the same answers give the same questions. It yields lists of `Ask` and is sent
    their answers in the same order; at the end of each batch it yields the batch's trials. Within a batch
    every trial is asked before any is told, and trials are reported, pruned and told in the order of their
    numbers, so the search does not depend on which of them was trained first.

    Args:
        space: What to search. Its paper's and default values, where they lie inside, are the first trials.
        settings: How to search.
        seed: Seed of the sampler.
        journal: An Optuna journal file that mirrors finished trials, for dashboards; never read back.
    """
    study = _study(space, settings)
    ended: list[Trial] = []
    while len(ended) < settings.trials:
        study.sampler = _sampler(settings, seed, len(ended))
        live = [study.ask(distributions(space)) for _ in range(settings.batch)]
        batch: dict[int, Trial] = {}
        scores: dict[int, list[float | None]] = {trial.number: [] for trial in live}
        since, until = 0, 0
        while live:
            since, until = until, min(until + settings.rung_epochs, settings.epochs)
            asked = [Ask(trial.number, config_of(space, trial.params), since, until) for trial in live]
            answers = yield asked
            assert answers is not None
            going = []
            for trial, ask, answer in zip(live, asked, answers, strict=True):
                scores[trial.number].append(answer.score)
                state = _report(study, trial, answer, settings)
                if state is None:
                    going.append(trial)
                else:
                    score = None if state in ("failed", "diverged") else answer.score
                    seen = tuple(scores[trial.number])
                    batch[trial.number] = Trial(
                        trial.number, ask.params, state, score, seen, answer.epochs, answer.gradient_work
                    )
            live = going
        finished = tuple(batch[number] for number in sorted(batch))
        ended += finished
        if journal is not None:
            mirror(study, space.name, journal)
        yield finished
    return Searched(space.name, settings.objective, tuple(ended), best_trial(ended, settings.objective), {})


def _study(space: Space, settings: TuningSettings) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=space.name,  # Hyperband hashes it
        direction="maximize" if settings.objective == "accuracy" else "minimize",
        pruner=_pruner(settings),
    )
    for config in first_configs(space):
        study.enqueue_trial(asked_of(space, config))
    return study


def _sampler(settings: TuningSettings, study_seed: int, trials: int) -> optuna.samplers.BaseSampler:
    # A sampler's own state is lost with its process, so each batch has a new one, seeded by its place.
    seed = (study_seed * 1_000_003 + trials) % 2**32
    startup = settings.startup_trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # GP and QMC are marked so
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
                # One sequence for the whole search: the study counts how much of it is used.
                # Where it has no trial to go by, it draws at random: from a new stream each batch.
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
                min_resource=settings.rung_epochs, max_resource=settings.epochs
            )
        case _:
            return optuna.pruners.NopPruner()


def _report(
    study: optuna.Study, trial: optuna.Trial, answer: Answer, settings: TuningSettings
) -> TrialState | None:
    """Tell Optuna of a rung; return how the trial ended, or None if it goes on."""
    if answer.state == "failed":
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return "failed"
    worst = WORST[settings.objective]
    if answer.state == "diverged" or answer.score is None:
        study.tell(trial, worst)
        return "diverged"
    score = answer.score if settings.objective == "accuracy" else min(answer.score, worst)
    trial.report(score, step=answer.epochs)
    if answer.state == "completed":
        study.tell(trial, score)
        return "completed"
    if trial.should_prune():  # Hyperband marks the trial: ask once only
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return "pruned"
    return None
