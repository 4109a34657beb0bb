"""A search is a deterministic program: the same reports give the same trials, however it was interrupted."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cases
import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.storages.journal import JournalFileBackend

from optstudy.optimizers import load_space
from optstudy.records.search import WORST, SearchResult, Trial, select_best
from optstudy.records.space import Choice, Range, Space
from optstudy.study.keys import PRUNERS, SAMPLERS
from optstudy.study.specification import Specification, TuningSettings
from optstudy.study.tuning.ask_tell import search
from optstudy.study.tuning.distributions import distributions, first_configs, from_optuna
from optstudy.study.tuning.importance import importances
from optstudy.study.tuning.journal import Journal

SGD = load_space("sgd", cases.HERE)
EVERY_SEARCH = pytest.mark.parametrize(
    ("sampler", "pruner"), [(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS]
)
SHORT = Specification.from_keys({"trials": 8, "startup_trials": 3, "tune_epochs": 4}).tuning

Objective = Callable[[Trial], Trial]


@dataclass(frozen=True)
class Seen:
    """All that a search asked and found."""

    asked: tuple[tuple[Trial, ...], ...]
    batches: tuple[tuple[Trial, ...], ...]
    found: SearchResult


def seen(
    space: Space,
    settings: TuningSettings,
    objective: Objective,
    journal: Path | None = None,
    step: int = 1,
    seed: int = 0,
) -> Seen:
    """Run a search; reports are computed from the last to the first with ``step`` -1."""
    mirror = Journal(journal) if journal else None
    searching, asked, batches = search(space, settings, seed, mirror), [], []
    try:
        trials = next(searching)
        while True:
            if trials[0].state == "running":
                asked.append(tuple(trials))
                trials = searching.send([objective(trial) for trial in trials[::step]][::step])
            else:
                batches.append(tuple(trials))
                trials = next(searching)
    except StopIteration as stop:
        best = select_best(stop.value, settings.objective)
        found = SearchResult("tiny", space, settings.objective, stop.value, best)
        return Seen(tuple(asked), tuple(batches), found)


def report(trial: Trial, score: float | None, state: Any = None, settings: TuningSettings = SHORT) -> Trial:
    """Return the trial as it is after its next rung."""
    until = settings.rung_end(trial.epochs)
    return replace(
        trial,
        state=state or ("completed" if until == SHORT.tune_epochs else "running"),
        score=score,
        scores=(*trial.scores, score),
        epochs=until,
        gradient_work=until,
    )


def smooth(trial: Trial) -> Trial:
    """Best at a learning rate of 0.03 with much momentum; the more epochs the better; lost at a large one."""
    lr, momentum = trial.params["lr"], trial.params["momentum"]
    if lr > 0.6:
        return report(trial, None, "diverged")
    score = 0.9 - 0.1 * (math.log10(lr) + 1.5) ** 2 + 0.1 * momentum - trial.params["weight_decay"]
    return report(trial, score * (1 - 0.5 ** SHORT.rung_end(trial.epochs)))


def by_number(*scores: float | None) -> Objective:
    """Give each trial a score by its number, the same after every rung; None diverges."""

    def objective(trial: Trial) -> Trial:
        score = scores[trial.number % len(scores)]
        return report(trial, score, None if score is not None else "diverged")

    return objective


@cache
def smooth_search(sampler: str, pruner: str, trials: int = 12) -> Seen:
    return seen(SGD, replace(SHORT, sampler=sampler, pruner=pruner, trials=trials), smooth)


@EVERY_SEARCH
def test_a_search_started_again_asks_the_same_whatever_was_drawn_before(sampler: str, pruner: str) -> None:
    chosen = replace(SHORT, sampler=sampler, pruner=pruner, trials=12)
    interrupted = search(SGD, chosen, 0)
    asks = next(interrupted)
    interrupted.send([smooth(trial) for trial in asks])
    interrupted.close()
    np.random.default_rng().random()
    np.random.seed(7)  # noqa: NPY002  # the global generator that a sampler might read

    again = seen(SGD, chosen, smooth, step=-1)

    assert again == smooth_search(sampler, pruner)


@EVERY_SEARCH
def test_four_trials_and_then_more_equal_all_at_once(sampler: str, pruner: str) -> None:
    whole = smooth_search(sampler, pruner)

    for trials in (4, 8):
        part = smooth_search(sampler, pruner, trials)
        assert part.found.trials == whole.found.trials[:trials]
        assert part.asked == whole.asked[: len(part.asked)]


@EVERY_SEARCH
def test_trials_are_counted_asked_whole_batches_at_a_time_and_stay_inside_the_space(
    sampler: str, pruner: str
) -> None:
    found = smooth_search(sampler, pruner)

    assert [trial.number for trial in found.found.trials] == list(range(12))
    assert [[trial.number for trial in batch] for batch in found.batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    for asks in found.asked:
        assert {(trial.state, trial.epochs) for trial in asks} == {("running", asks[0].epochs)}
        assert len({trial.number // 4 for trial in asks}) == 1
        assert [trial for trial in asks if not SGD.contains(trial.params)] == []


@EVERY_SEARCH
def test_no_two_trials_draw_the_same_learning_rate(sampler: str, pruner: str) -> None:
    rates = Counter(trial.params["lr"] for trial in smooth_search(sampler, pruner).found.trials[2:])

    assert max(rates.values()) == 1


def test_qmc_repeats_no_point_even_if_nothing_ever_completes() -> None:
    chosen = replace(SHORT, sampler="qmc", batch=1, trials=6)

    found = seen(SGD, chosen, lambda trial: replace(trial, state="failed"))

    assert len({trial.params["lr"] for trial in found.found.trials}) == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_seed_searches_elsewhere(sampler: str) -> None:
    other = seen(SGD, replace(SHORT, sampler=sampler, trials=4), smooth, seed=1)

    ours = smooth_search(sampler, "median").found.trials
    assert [trial.params for trial in other.found.trials[:2]] == [trial.params for trial in ours[:2]]
    assert [trial.params for trial in other.found.trials[2:4]] != [trial.params for trial in ours[2:4]]


@pytest.mark.parametrize("name", [space.name for space in cases.spaces()])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_papers_and_the_default_values_come_first_to_the_last_digit(name: str, sampler: str) -> None:
    space = load_space(name, cases.HERE)
    wanted = [space.default]
    if space.paper is not None and space.config("paper") != space.default:
        wanted = [space.config("paper"), space.default]

    first = next(search(space, replace(SHORT, sampler=sampler), 5))

    assert first_configs(space) == wanted
    assert [trial.params for trial in first][: len(wanted)] == wanted


@pytest.mark.parametrize("paper", [{"lr": 7.0}, {"weight_decay": 0.5}, {"nesterov": True}])
def test_a_paper_configuration_outside_the_space_is_left_out(paper: dict[str, Any]) -> None:
    space = replace(SGD, paper=paper, fixed={"nesterov": False})

    assert first_configs(space) == [SGD.default]
    assert next(search(space, SHORT, 0))[0].params == SGD.default


def test_a_diverged_trial_is_finished_with_a_finite_value_and_never_best() -> None:
    found = seen(SGD, replace(SHORT, trials=4, batch=4), by_number(None, None, 0.1, None))

    states = [trial.state for trial in found.found.trials]
    assert states == ["diverged", "diverged", "completed", "diverged"]
    assert [trial.score for trial in found.found.trials] == [None, None, 0.1, None]
    assert found.found.best == found.found.trials[2]


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_no_trial_is_told_anything_worse_than_a_diverged_one(objective: Any, tmp_path: Path) -> None:
    chosen = replace(SHORT, trials=4, objective=objective, pruner="none")
    worst = {"accuracy": 0.0, "loss": 1e30}[objective]

    found = seen(SGD, chosen, by_number(None, worst, 0.5, 0.6), tmp_path / "journal")

    told = [trial.value for trial in mirrored(tmp_path / "journal", "sgd")]
    assert told == [WORST[objective], WORST[objective], 0.5, 0.6]
    assert found.found.trials[1].score == worst


def test_a_failed_trial_has_no_score_and_ends_the_trial_alone() -> None:
    def objective(trial: Trial) -> Trial:
        return report(trial, None, "failed") if trial.number == 1 else smooth(trial)

    found = seen(SGD, replace(SHORT, pruner="none"), objective)

    failed = found.found.trials[1]
    assert (failed.state, failed.score, failed.scores) == ("failed", None, (None,))
    assert [trial.state for trial in found.found.trials].count("failed") == 1


@pytest.mark.parametrize("state", ["failed", "diverged"])
@EVERY_SEARCH
def test_where_no_trial_completes_there_is_no_best(sampler: str, pruner: str, state: str) -> None:
    chosen = replace(SHORT, sampler=sampler, pruner=pruner)

    found = seen(SGD, chosen, lambda trial: report(trial, None, state))

    assert found.found.best is None
    assert {trial.state for trial in found.found.trials} == {state}
    assert importances(found.found, 0) == {}


def test_a_bad_trial_is_pruned_after_its_first_rung() -> None:
    good, bad = (0.9, 0.8, 0.7, 0.6), (0.1, 0.95, 0.2, 0.3)

    found = seen(SGD, SHORT, by_number(*good, *bad))

    first, second = found.found.trials[:4], found.found.trials[4:]
    assert {trial.state for trial in first} == {"completed"}
    assert [(trial.state, trial.epochs, trial.scores) for trial in second] == [
        ("pruned", 1, (0.1,)),
        ("completed", 4, (0.95,) * 4),
        ("pruned", 1, (0.2,)),
        ("pruned", 1, (0.3,)),
    ]
    assert [[trial.number for trial in asks] for asks in found.asked[4:]] == [[4, 5, 6, 7], [5], [5], [5]]


def test_hyperband_prunes_already_in_the_first_batches() -> None:
    scores = tuple(0.9 - 0.05 * number for number in range(12))

    found = seen(SGD, replace(SHORT, pruner="hyperband", trials=12, tune_epochs=4), by_number(*scores))

    pruned = [trial for trial in found.found.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.epochs < 4 for trial in pruned)


def test_without_a_pruner_every_trial_ends() -> None:
    states = [trial.state for trial in smooth_search("random", "none").found.trials]

    assert set(states) <= {"completed", "diverged"}


def test_rungs_of_several_epochs_end_with_the_last_epoch() -> None:
    chosen = replace(SHORT, rung_epochs=3, trials=4, pruner="none")

    found = seen(SGD, chosen, lambda trial: report(trial, 0.5, settings=chosen))

    assert [asks[0].epochs for asks in found.asked] == [0, 3]
    assert {trial.epochs for trial in found.found.trials} == {4}


@pytest.mark.parametrize(
    ("objective", "scores", "best"),
    [
        ("accuracy", (0.5, 0.9, 0.9, 0.1), 1),
        ("loss", (0.5, 0.1, 0.9, 0.1), 1),
        ("accuracy", (0.0, None, None, None), 0),
        ("loss", (1e30, None, None, None), 0),
    ],
)
def test_the_best_trial_has_the_best_score_and_of_equal_ones_the_lowest_number(
    objective: Any, scores: tuple[float | None, ...], best: int
) -> None:
    chosen = replace(SHORT, objective=objective, trials=4, pruner="none")

    found = seen(SGD, chosen, by_number(*scores)).found.best

    assert found is not None
    assert found.number == best


def test_a_search_of_one_trial_tries_what_the_paper_used() -> None:
    found = seen(SGD, replace(SHORT, trials=1, batch=1), smooth)

    (trial,) = found.found.trials
    assert found.found.best == trial
    assert trial.params == SGD.config("paper")


def test_a_batch_larger_than_the_number_of_trials_is_asked_whole() -> None:
    found = seen(SGD, replace(SHORT, trials=2, batch=5), smooth)

    assert len(found.found.trials) == 5


def test_batches_of_one_search_too() -> None:
    found = seen(SGD, replace(SHORT, trials=6, batch=1), smooth)

    assert [len(asks) for asks in found.asked] == [1] * len(found.asked)
    assert len(found.found.trials) == 6


def test_work_and_epochs_are_those_of_the_last_report() -> None:
    trials = seen(SGD, replace(SHORT, trials=4, pruner="none"), by_number(0.1, 0.2, 0.3, 0.4)).found.trials

    assert [(trial.epochs, trial.gradient_work) for trial in trials] == [(4, 4)] * 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_importances_are_shares_that_sum_to_one(sampler: str) -> None:
    found = smooth_search(sampler, "none").found

    shares = importances(found, seed=0)

    assert set(shares) == set(distributions(SGD))
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0


def test_importances_of_a_large_search_are_those_of_some_of_its_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, added, add = smooth_search("random", "none", 24).found, [], optuna.Study.add_trial

    def counted(self: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        added.append(trial)
        add(self, trial)

    monkeypatch.setattr("optstudy.study.tuning.importance.MAX_TRIALS", 15)
    monkeypatch.setattr(optuna.Study, "add_trial", counted)

    shares = importances(found, 0)

    assert len(added) == 15
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(found, 0) == shares


@pytest.mark.parametrize("scores", [(0.5, 0.5, 0.5, 0.5), (0.5, None, None, None)])
def test_importances_are_not_told_where_all_scores_are_one(scores: tuple[float | None, ...]) -> None:
    found = seen(SGD, replace(SHORT, trials=4, pruner="none"), by_number(*scores)).found

    assert importances(found, seed=0) == {}


numbers = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def dimensions(draw: st.DrawFn, name: str) -> Range | Choice:
    kind = draw(st.sampled_from(["choice", "whole", "plain", "log", "complement", "log complement"]))
    if kind == "choice":
        values = draw(st.lists(st.floats(0, 1) | st.text(max_size=3), min_size=1, max_size=5, unique=True))
        return Choice(name, tuple(values), "")
    if kind == "whole":
        low, high = sorted(draw(st.lists(st.integers(1, 1000), min_size=2, max_size=2, unique=True)))
        return Range(name, low, high, draw(st.booleans()), False, True, "")
    ends = {"log": st.floats(1e-12, 1e6), "log complement": st.floats(-1e3, 1 - 1e-12)}.get(kind, numbers)
    one, other = sorted(draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    assume(other - one > 1e-6)  # narrower ones are no search
    return Range(name, one, other, "log" in kind, "complement" in kind, False, "")


@st.composite
def random_spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    items = tuple(draw(dimensions(name)) for name in names)
    ends = {
        item.name: item.choices[-1]
        if isinstance(item, Choice)
        else draw(st.sampled_from([item.low, item.high]))
        for item in items
    }
    return replace(SGD, search=items, default=ends, paper=None, fixed={}, tuples={})


@settings(max_examples=25)
@given(random_spaces(), st.sampled_from(["tpe", "random", "qmc"]), st.integers(0, 2**31))
def test_every_configuration_that_is_asked_lies_inside_the_space(
    space: Space, sampler: str, seed: int
) -> None:
    chosen = replace(SHORT, sampler=sampler, trials=6, batch=3, startup_trials=1, pruner="none")

    found = seen(space, chosen, lambda trial: report(trial, (trial.number * 0.37) % 1), seed=seed)

    assert [space.violations(trial.params) for trial in found.found.trials] == [[]] * 6


@settings(max_examples=5)
@given(random_spaces())
def test_importances_are_told_of_any_space(space: Space) -> None:
    found = seen(space, SHORT, lambda trial: report(trial, (trial.number * 0.37) % 1)).found

    assert sum(importances(found, 0).values()) == pytest.approx(1)


@given(st.decimals(0, 1, places=9), st.booleans())
def test_what_is_searched_as_one_minus_x_comes_back_to_the_last_digit(value: Any, log: bool) -> None:
    space = replace(SGD, search=(Range("x", 0.0, 1.0, log, True, False, ""),))

    assert from_optuna(space, {"1 - x": 1 - float(value)}) == {"x": float(value)}


def mirrored(journal: Path, name: str) -> Sequence[optuna.trial.FrozenTrial]:
    """Read a journal as a dashboard does."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=name, storage=storage).trials


def test_the_journal_mirrors_each_trial_once_however_often_the_search_is_run(tmp_path: Path) -> None:
    journal, adam = tmp_path / "journal", load_space("adam", cases.HERE)
    flat = by_number(0.5, 0.6, None, 0.1, 0.2, 0.3)
    states = {"completed": "COMPLETE", "diverged": "COMPLETE", "pruned": "PRUNED"}

    found = seen(SGD, replace(SHORT, trials=4), flat, journal)
    seen(adam, replace(SHORT, trials=4), flat, journal)
    found = seen(SGD, SHORT, flat, journal)
    found = seen(SGD, SHORT, flat, journal)

    trials = mirrored(journal, "sgd")
    assert [trial.number for trial in trials] == list(range(8))
    assert [trial.state.name for trial in trials] == [states[trial.state] for trial in found.found.trials]
    assert [from_optuna(SGD, trial.params) for trial in trials] == [t.params for t in found.found.trials]
    assert len(mirrored(journal, "adam")) == 4


def test_a_mirrored_search_finds_what_it_finds_without_a_journal(tmp_path: Path) -> None:
    chosen = replace(SHORT, trials=12)

    assert seen(SGD, chosen, smooth, tmp_path / "journal") == smooth_search("tpe", "median")


DAMAGED_JOURNALS: dict[str, Callable[[bytes], bytes]] = {
    "a torn last line": lambda whole: whole[:-20],
    "a line torn and written on": lambda whole: whole[:-20] + whole,
    "no line at all": lambda _: b"\x00" * 9,
    "lines of something else": lambda whole: b"3\n" + whole,
    "an unknown operation": lambda whole: whole + b'{"op_code": 99}\n',
}


def test_a_whole_journal_and_a_missing_one_are_left_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    assert [*Journal(journal).check()] == []
    seen(SGD, SHORT, smooth, journal)
    assert [*Journal(journal).check()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_a_folder_in_place_of_the_journal_is_set_aside(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    (journal / "mine").mkdir(parents=True)

    [told] = Journal(journal).check()

    assert told.text.startswith(f"{journal} is damaged (")
    assert (tmp_path / "journal.damaged-1" / "mine").is_dir()


@pytest.mark.parametrize("damage", DAMAGED_JOURNALS)
def test_a_damaged_journal_is_set_aside_and_written_anew(damage: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    seen(SGD, replace(SHORT, trials=4), smooth, journal)
    for kept in ("journal.damaged-1", "journal.damaged-2"):
        damaged = DAMAGED_JOURNALS[damage](journal.read_bytes())
        journal.write_bytes(damaged)

        [told] = Journal(journal).check()
        found = seen(SGD, SHORT, smooth, journal)

        assert told.text.startswith(f"{journal} is damaged (")
        assert told.text.endswith(f"; it is kept as {kept} and written anew")
        assert (tmp_path / kept).read_bytes() == damaged
        assert len(mirrored(journal, "sgd")) == len(found.found.trials) == 8
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_the_journal_is_read_once_and_no_trial_is_copied_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many trials there are: the cost of a batch does not grow with the number of trials before it."""
    read: list[Any] = []
    copied: list[Any] = []
    read_logs, get_all = JournalFileBackend.read_logs, InMemoryStorage.get_all_trials

    def logs(self: JournalFileBackend, first: int) -> Iterator[Any]:
        for log in read_logs(self, first):
            read.append(log)
            yield log

    def trials(self: InMemoryStorage, study: int, deepcopy: bool = True, states: Any = None) -> Any:
        copied.extend([None] * deepcopy)
        return get_all(self, study, deepcopy, states)

    monkeypatch.setattr(JournalFileBackend, "read_logs", logs)
    monkeypatch.setattr(InMemoryStorage, "get_all_trials", trials)
    chosen = replace(SHORT, sampler="random", pruner="none", trials=80)
    counts = []
    for _ in range(2):  # from the beginning, and again
        read.clear()
        seen(SGD, chosen, smooth, tmp_path / "journal")
        counts.append(len(read))

    assert counts == [81, 82]  # each trial once, and the name of the study
    assert copied == []


def test_the_lock_of_a_driver_that_was_killed_while_it_wrote_the_journal_is_removed(tmp_path: Path) -> None:
    (tmp_path / "journal.lock").symlink_to("journal")
    flat = by_number(0.5, 0.6, None, 0.1)

    assert list(Journal(tmp_path / "journal").check()) == []
    seen(SGD, replace(SHORT, trials=4), flat, tmp_path / "journal")

    assert not (tmp_path / "journal.lock").is_symlink()
    assert len(mirrored(tmp_path / "journal", "sgd")) == 4
