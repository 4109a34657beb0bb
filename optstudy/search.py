"""One optimizer's search: from a space to its best configuration. The only importer of Optuna."""

import itertools
import json
import math
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.optimizers import Choice, Range, Space

TrialState = Literal["completed", "pruned", "diverged", "failed"]

# What a diverged trial is told, since Optuna hides a NaN from its sampler. No trial is told anything worse.
WORST = {"accuracy": 0.0, "loss": 100.0}


@dataclass(frozen=True)
class Trial:
    """One configuration tried."""

    number: int
    params: dict[str, Any]  # hyperparameters as the optimizer takes them: lr, momentum, beta_1, ...
    state: TrialState
    score: float | None  # the objective at the last rung; None where it is not finite or the trial failed
    scores: tuple[float | None, ...]  # the objective at the end of each rung
    epochs: int  # epochs trained
    gradient_work: float  # forward and backward passes of one mini-batch; a Hessian product counts 2


@dataclass(frozen=True)
class Searched:
    """A finished search."""

    optimizer: str
    objective: Literal["accuracy", "loss"]  # of the validation split
    trials: tuple[Trial, ...]
    best: Trial | None  # None if no trial completed
    importances: dict[str, float]  # share of each hyperparameter, summing to 1; empty where it is not known


@dataclass(frozen=True)
class Settings:
    """How to search."""

    trials: int  # a multiple of batch
    batch: int
    sampler: str  # tpe, gp, random, qmc
    startup_trials: int
    pruner: str  # median, hyperband, none
    objective: Literal["accuracy", "loss"]
    epochs: int
    rung_epochs: int
    seed: int


@dataclass(frozen=True)
class Ask:
    """A trial to train until the end of an epoch."""

    number: int
    params: dict[str, Any]
    since: int
    until: int


@dataclass(frozen=True)
class Answer:
    """How a trial stands at the end of a rung."""

    state: Literal["running", "completed", "diverged", "failed"]
    score: float | None
    epochs: int
    gradient_work: float


Searching = Generator[list[Ask] | tuple[Trial, ...], list[Answer] | None, Searched]


def search(space: Space, settings: Settings, journal: Path | None = None) -> Searching:
    """Search one optimizer's space, whole batches at a time.

    A deterministic program: the same answers give the same questions. It yields lists of `Ask` and is sent
    their answers in the same order; at the end of each batch it yields the batch's trials. Within a batch
    every trial is asked before any is told, and trials are reported, pruned and told in the order of their
    numbers, so the search does not depend on which of them was trained first.

    Args:
        space: What to search. Its paper's and default values, where they lie inside, are the first trials.
        settings: How to search.
        journal: An Optuna journal file that mirrors finished trials, for dashboards; never read back.
    """
    study = _study(space, settings)
    ended: list[Trial] = []
    while len(ended) < settings.trials:
        study.sampler = _sampler(settings, len(ended))
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
            _mirror(study, space.name, journal)
        yield finished
    return Searched(space.name, settings.objective, tuple(ended), best_trial(ended, settings.objective), {})


def best_trial(trials: Sequence[Trial], objective: Literal["accuracy", "loss"]) -> Trial | None:
    """The completed trial with the best score, of equal ones the first; None if none completed."""
    sign = 1 if objective == "accuracy" else -1
    completed = [trial for trial in trials if trial.state == "completed" and trial.score is not None]
    return max(completed, key=lambda trial: (sign * (trial.score or 0.0), -trial.number), default=None)


def importances(space: Space, searched: Searched, seed: int) -> dict[str, float]:
    """Share of each hyperparameter in the variance of the score (fANOVA; Hutter et al., 2014).

    Returns:
        Shares by Optuna's names, summing to 1; empty where all completed trials have one score.
    """
    trials = [trial for trial in searched.trials if trial.state == "completed" and trial.score is not None]
    if len({trial.score for trial in trials}) < 2:  # noqa: PLR2004  # no variance to share out
        return {}
    study = optuna.create_study(direction="maximize" if searched.objective == "accuracy" else "minimize")
    for trial in trials:
        params = _asked_of(space, trial.params)
        made = optuna.trial.create_trial(params=params, distributions=distributions(space), value=trial.score)
        study.add_trial(made)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def first_configs(space: Space) -> list[dict[str, Any]]:
    """The paper's and the library's default configuration, where they lie in the space."""
    default = space.config("default")
    paper = default if space.paper is None else space.config("paper")
    inside = [config for config in (paper, default) if space.contains(config)]
    return inside[:1] if paper == default else inside


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's description of a space. What is searched as 1 - x is named so."""
    made: dict[str, BaseDistribution] = {}
    for item in space.search:
        if isinstance(item, Choice):
            made[item.name] = CategoricalDistribution(item.choices)
        elif item.integer:
            made[item.name] = IntDistribution(int(item.low), int(item.high), log=item.log)
        elif item.complement:
            made[f"1 - {item.name}"] = FloatDistribution(1 - item.high, 1 - item.low, log=item.log)
        else:
            made[item.name] = FloatDistribution(item.low, item.high, log=item.log)
    return made


def config_of(space: Space, asked: dict[str, Any]) -> dict[str, Any]:
    """Turn Optuna's values into hyperparameters."""
    return {item.name: _value_of(item, asked) for item in space.search}


def _value_of(item: Range | Choice, asked: dict[str, Any]) -> Any:
    if isinstance(item, Choice):
        return asked[item.name]
    # Rounded, so that 1 - (1 - 0.1) is 0.1 again; held inside, since rounding may step over an end.
    value = round(1 - asked[f"1 - {item.name}"], 12) if item.complement else asked[item.name]
    return min(max(value, item.low), item.high)


def _asked_of(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    made = distributions(space)
    return {name: 1 - config[name[4:]] if name.startswith("1 - ") else config[name] for name in made}


def _study(space: Space, settings: Settings) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=space.name,  # Hyperband hashes it
        direction="maximize" if settings.objective == "accuracy" else "minimize",
        pruner=_pruner(settings),
    )
    for config in first_configs(space):
        study.enqueue_trial(_asked_of(space, config))
    return study


def _sampler(settings: Settings, trials: int) -> optuna.samplers.BaseSampler:
    # A sampler's own state is lost with its process, so each batch has a new one, seeded by its place.
    seed = (settings.seed * 1_000_003 + trials) % 2**32
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
                    seed=settings.seed,
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                )


def _pruner(settings: Settings) -> optuna.pruners.BasePruner:
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
    study: optuna.Study, trial: optuna.Trial, answer: Answer, settings: Settings
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


def _mirror(study: optuna.Study, name: str, path: Path) -> None:
    if path.exists() and not _is_whole(path):  # a driver was killed while writing, or a disk was full
        _set_aside(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    direction = study.direction
    mirror = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    there = len(mirror.get_trials(deepcopy=False))
    mirror.add_trials(
        [trial for trial in study.get_trials() if trial.number >= there and trial.state.is_finished()]
    )


def _is_whole(journal: Path) -> bool:
    *lines, rest = journal.read_bytes().split(b"\n")
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return not rest


def _set_aside(journal: Path) -> None:
    places = (journal.with_name(f"{journal.name}.damaged-{number}") for number in itertools.count(1))
    journal.rename(next(place for place in places if not place.exists()))
