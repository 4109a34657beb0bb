"""What a search found, drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finals import LOOKS, look_keys
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optstudy.records.search import SearchResult, Trial, TrialState, select_best
from optstudy.records.space import Choice, Range, Space
from optstudy.report.figures import history, importances, png, score_against_learning_rate, slices

LR = Range("lr", 1e-4, 1.0, log=True, complement=False, integer=False, why="")
MOMENTUM = Range("momentum", 0.0, 0.999, log=True, complement=True, integer=False, why="")
DECAY = Range("weight_decay", 1e-7, 1e-2, log=True, complement=False, integer=False, why="")
DAMPENING = Range("dampening", 0.0, 0.5, log=False, complement=False, integer=False, why="")
EVERY = Range("every", 1, 8, log=False, complement=False, integer=True, why="")
NESTEROV = Choice("nesterov", (False, True), why="")
SPACE = Space(
    name="sgd",
    optimizer="torch.optim.SGD",
    needs="",
    seeded=False,
    hessian_products=0,
    tuples={},
    fixed={},
    search=(LR, MOMENTUM),
    default={"lr": 1e-3, "momentum": 0.0},
    paper={"lr": 0.1},
    source=Path("sgd.toml"),
)
PAPER = {"lr": 0.1, "momentum": 0.0}


def trial(
    number: int, score: float | None, state: TrialState = "completed", params: dict[str, Any] | None = None
) -> Trial:
    params = params or {"lr": 10.0 ** -(number % 4), "momentum": 1 - 10.0 ** -(number % 3)}
    return Trial(number, params, state, score, (score,), epochs=3, gradient_work=100.0)


def searched(
    *trials: Trial, objective: Any = "accuracy", optimizer: str = "sgd", space: Space = SPACE
) -> SearchResult:
    best = select_best(trials, objective)
    return SearchResult(
        "quick", replace(space, name=optimizer, **look_keys(optimizer)), objective, trials, best
    )


def lines(figure: Figure, panel: int = 0) -> dict[str, Line2D]:
    """Lines by legend text; of the same text the first."""
    return {str(line.get_label()): line for line in reversed(figure.axes[panel].lines)}


def points(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    return {
        name: [(x, y) for x, y in np.asarray(line.get_xydata())]
        for name, line in lines(figure, panel).items()
    }


MIXED = searched(
    trial(0, 0.97), trial(1, 0.5, "pruned"), trial(2, 0.99), trial(3, None, "diverged"), trial(4, 0.98)
)


def test_history_has_a_point_for_each_trial_in_per_cent_by_state() -> None:
    drawn = points(history(MIXED))

    assert drawn["completed"] == [(0, 97.0), (2, 99.0), (4, 98.0)]
    assert drawn["pruned, its last score"] == [(1, 50.0)]
    assert drawn["chosen"] == [(2, 99.0)]
    assert [x for x, _ in drawn["diverged"]] == [3]


def test_history_steps_follow_the_best_completed_trial_so_far() -> None:
    step = lines(history(MIXED))["best so far"]

    assert step.get_drawstyle() == "steps-post"
    assert step.get_color() == LOOKS["sgd"].colour
    np.testing.assert_allclose(np.asarray(step.get_xydata()), [(0, 97), (2, 99), (4, 99), (4, 99)])


def test_best_so_far_falls_where_the_objective_is_a_loss() -> None:
    drawn = history(searched(trial(0, 0.3), trial(1, 0.1), trial(2, 0.2), objective="loss"))

    assert lines(drawn)["best so far"].get_ydata() == pytest.approx([0.3, 0.1, 0.1, 0.1])
    assert drawn.axes[0].get_ylabel() == "Validation loss"
    assert drawn.axes[0].get_yscale() == "log"


@pytest.mark.parametrize(("objective", "edge"), [("accuracy", 0.03), ("loss", 0.97)])
def test_trial_without_a_score_is_drawn_at_the_bad_edge(objective: str, edge: float) -> None:
    drawn = history(searched(trial(0, 0.5), trial(1, None, "failed"), objective=objective))

    failed = lines(drawn)["failed"]
    axes = drawn.axes[0]
    heights = axes.transAxes.inverted().transform(failed.get_transform().transform(failed.get_xydata()))
    assert heights[0][1] == pytest.approx(edge)


def test_diverged_trial_with_a_score_is_drawn_at_its_score() -> None:
    drawn = history(searched(trial(0, 0.5), trial(1, 0.1, "diverged")))

    assert points(drawn)["diverged"] == [(1, 10.0)]


def test_loss_that_is_not_positive_is_drawn_on_a_linear_axis() -> None:
    drawn = history(searched(trial(0, -0.5), trial(1, 0.0), objective="loss"))

    assert drawn.axes[0].get_yscale() == "linear"
    assert points(drawn)["completed"] == [(0, -0.5), (1, 0.0)]


def test_importances_are_bars_in_per_cent_with_the_largest_on_top() -> None:
    drawn = importances(replace(MIXED, importances={"momentum": 0.2, "lr": 0.75, "weight_decay": 0.05}))

    (axes,) = drawn.axes
    bars = sorted(axes.patches, key=lambda bar: bar.get_window_extent().y0, reverse=True)
    assert [bar.get_window_extent().width for bar in bars] == pytest.approx(
        [share * axes.transData.transform([(1, 0), (0, 0)])[:, 0] @ [1, -1] for share in (75, 20, 5)]
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["weight_decay", "momentum", "lr"]
    assert sorted(text.get_text() for text in axes.texts) == ["20", "5", "75"]


def test_importances_that_cannot_be_told_are_a_sentence() -> None:
    (axes,) = importances(MIXED).axes

    assert [text.get_text() for text in axes.texts] == ["The trials do not determine importances"]


def test_slices_have_a_panel_for_each_hyperparameter_on_its_own_scale() -> None:
    space = replace(SPACE, search=(LR, MOMENTUM, DAMPENING, EVERY, NESTEROV))
    params = {"lr": 0.01, "momentum": 0.9, "dampening": 0.25, "every": 3, "nesterov": True}

    drawn = slices(searched(trial(0, 0.98, params=params), space=space))

    assert [axes.get_xlabel() for axes in drawn.axes] == [
        *("lr", "1 - momentum", "dampening", "every", "nesterov, spread sideways")
    ]
    assert [axes.get_xscale() for axes in drawn.axes] == ["log", "log", "linear", "linear", "linear"]
    values = [points(drawn, panel)["completed"][0][0] for panel in range(5)]
    assert values[:4] == pytest.approx([0.01, 0.1, 0.25, 3])
    assert values[4] == pytest.approx(1, abs=0.25)
    assert [label.get_text() for label in drawn.axes[4].get_xticklabels()] == ["False", "True"]


def test_slices_share_the_scores_axis() -> None:
    drawn = slices(MIXED)

    assert len({axes.get_ylim() for axes in drawn.axes}) == 1
    assert [y for _, y in points(drawn, 1)["completed"]] == [97.0, 99.0, 98.0]


def test_points_of_a_choice_are_spread_so_that_none_hides_another() -> None:
    trials = [trial(i, 0.98, params={"nesterov": False}) for i in range(12)]

    drawn = slices(searched(*trials, space=replace(SPACE, search=(NESTEROV,))))

    xs = [x for x, _ in points(drawn)["completed"]]
    assert min(np.diff(sorted(xs))) > 0.01
    assert max(map(abs, xs)) <= 0.25


def test_value_without_a_place_on_a_logarithmic_axis_is_left_out() -> None:
    trials = [trial(0, 0.9, params={"weight_decay": 0.0}), trial(1, 0.95, params={"weight_decay": 1e-4})]

    drawn = slices(searched(*trials, space=replace(SPACE, search=(DECAY,))))

    assert points(drawn)["completed"] == [(1e-4, 95.0)]


def test_learning_rate_figure_shows_all_trials_and_marks_the_best() -> None:
    drawn = score_against_learning_rate(MIXED)

    assert drawn.axes[0].get_xscale() == "log"
    assert drawn.axes[0].get_xlabel() == "Learning rate"
    shown = points(drawn)
    assert shown["completed"] == [(1.0, 97.0), (0.01, 99.0), (1.0, 98.0)]
    assert shown["pruned, its last score"] == [(0.1, 50.0)]
    assert shown["chosen"] == [(0.01, 99.0)]
    assert shown["diverged"][0][0] == pytest.approx(1e-3)


def test_trials_of_the_paper_and_of_the_library_are_ringed() -> None:
    trials = [
        trial(0, 0.98, params=PAPER),
        trial(1, 0.9, params={"lr": 1e-3, "momentum": 1 - (1 - 0.0)}),
        trial(2, 0.99, params={"lr": 0.1, "momentum": 0.9}),
    ]

    drawn = points(score_against_learning_rate(searched(*trials)))

    assert drawn["paper's values"] == [(0.1, 98.0)]
    assert drawn["library's defaults"] == [(1e-3, 90.0)]


def test_ring_survives_the_rounding_of_a_complement() -> None:
    stored = 1 - (1 - 0.3)
    assert stored != 0.3
    space = replace(SPACE, paper={"lr": 0.1, "momentum": 0.3})

    found = searched(trial(0, 0.98, params=PAPER | {"momentum": stored}), space=space)
    drawn = points(score_against_learning_rate(found))

    assert drawn["paper's values"] == [(0.1, 98.0)]


def test_no_ring_is_drawn_where_no_trial_has_the_values() -> None:
    drawn = lines(
        score_against_learning_rate(replace(MIXED, space=replace(SPACE, paper=None, default=PAPER)))
    )

    assert not {"paper's values", "library's defaults"} & set(drawn)


def test_learning_rate_that_was_not_searched_is_a_sentence() -> None:
    (axes,) = score_against_learning_rate(replace(MIXED, space=replace(SPACE, search=(MOMENTUM,)))).axes

    assert [text.get_text() for text in axes.texts] == ["The learning rate was not searched"]


def test_search_without_a_best_has_no_star_and_no_steps() -> None:
    drawn = lines(history(searched(trial(0, 0.9, "pruned"), trial(1, 0.8, "pruned"))))

    assert set(drawn) == {"pruned, its last score"}


def test_points_have_the_optimizers_colour_and_marker() -> None:
    for name in ("adagrad", "adam", "adahessian"):
        completed = lines(history(searched(trial(0, 0.9), optimizer=name)))["completed"]
        assert (completed.get_color(), completed.get_marker()) == (LOOKS[name].colour, LOOKS[name].marker)


def test_legend_names_each_kind_of_point_once() -> None:
    trials = [trial(0, 0.9), trial(1, 0.1, "diverged"), trial(2, None, "diverged"), trial(3, None, "failed")]
    found = searched(*trials)

    for drawn in (history(found), slices(found), score_against_learning_rate(found)):
        (legend,) = drawn.legends
        names = [text.get_text() for text in legend.get_texts()]
        assert len(names) == len(set(names))
        assert {"completed", "diverged", "failed", "chosen"} <= set(names)


def random_search(count: int, objective: str) -> SearchResult:
    generator = np.random.default_rng(count)
    states: list[TrialState] = ["completed", "pruned", "diverged", "failed"]
    trials = []
    for number in range(count):
        params = {
            "lr": float(10 ** generator.uniform(-4, 0)),
            "momentum": float(1 - 10 ** generator.uniform(-3, 0)),
            "weight_decay": float(10 ** generator.uniform(-7, -2)),
            "dampening": float(generator.uniform(0, 0.5)),
            "nesterov": bool(generator.random() < 0.5),
        }
        state = states[int(generator.choice(4, p=[0.6, 0.2, 0.1, 0.1]))]
        score = None if state == "failed" else float(generator.uniform(0.1, 0.99))
        trials.append(trial(number, score, state, params if number else params | PAPER))
    return searched(*trials, objective=objective, optimizer="adahessian")


EDGES = {
    "one": searched(trial(0, 0.9873)),
    "equal": searched(*(trial(i, 0.98) for i in range(5))),
    "pruned": searched(*(trial(i, 0.5 + i / 10, "pruned") for i in range(4))),
    "no-scores": searched(*(trial(i, None, "diverged") for i in range(4))),
    "perfect": searched(trial(0, 1.0), trial(1, 0.0)),
    "accuracy": random_search(24, "accuracy"),
    "loss": random_search(60, "loss"),
}


@pytest.mark.parametrize("name", EDGES)
def test_texts_do_not_overlap(name: str, assert_readable: Callable[[Figure], None]) -> None:
    found = EDGES[name]
    searched_names = found.trials[0].params
    dimensions = (LR, MOMENTUM, DECAY, DAMPENING, NESTEROV)
    space = replace(found.space, search=tuple(d for d in dimensions if d.name in searched_names))
    found = replace(found, space=space)
    shares = dict.fromkeys(searched_names, 1 / len(searched_names))

    assert_readable(history(found))
    assert_readable(slices(found))
    assert_readable(score_against_learning_rate(found))
    assert_readable(importances(replace(found, importances=shares)))


def test_same_search_gives_the_same_bytes() -> None:
    assert png(slices(MIXED)) == png(slices(MIXED))
