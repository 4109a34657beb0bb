"""Every result of `optstudy.curvature` draws itself."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import (
    EigenTracker,
    Estimate,
    Ratio,
    hessian,
    layer_spectra,
    loss_landscape,
    spectral_density,
    top_eigenpairs,
    trace,
)
from optstudy.figures import plot
from optstudy.report.figures import glyphs

Check = Callable[[Figure], None]

TITLE = "A net with a rather long name: x$1"
AXIS = [-1.0, -0.5, 0.0, 0.5, 1.0]


@cache
def results() -> dict[str, Any]:
    model, batch = oracles.net(3, 5, 4, seed=1), oracles.examples()
    arguments = (model, cross_entropy, batch)
    pairs = top_eigenpairs(*arguments, k=5)
    tracker, state, seen = EigenTracker(cross_entropy, batch, steps=range(10, 13)), None, {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(10, 13):
        state, seen[step] = tracker.observe(Step(step, model, optimizer), state)
    return {
        "eigenpairs": pairs,
        "one eigenpair": top_eigenpairs(*arguments, k=1, order="smallest"),
        "unconverged": replace(pairs, converged=False),
        "ratio": pairs.ratio,
        "no second": Ratio(math.inf, 3.0, math.inf, "unresolved", "open"),
        "trace": trace(hessian(*arguments), 12),
        "exact": Estimate(1.5, 1.5, 1.5, 3),
        "density": spectral_density(hessian(*arguments), 3, 10),
        "line": loss_landscape(*arguments, pairs.vectors[:1], [AXIS]),
        "plane": loss_landscape(*arguments, pairs.vectors[:2], [AXIS, AXIS[1:]]),
        "layers": layer_spectra(*arguments, k=3),
        "layers with densities": layer_spectra(*arguments, density=True),
        "one layer": layer_spectra(*arguments)["0"],
        "tracked": seen,
    }


class Step:
    def __init__(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.step, self.model, self.optimizer = step, model, optimizer


NAMES = (
    "eigenpairs",
    "one eigenpair",
    "unconverged",
    "ratio",
    "no second",
    "trace",
    "exact",
    "density",
    "line",
    "plane",
    "layers",
    "layers with densities",
    "one layer",
    "tracked",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_it_and_no_text_overlaps(name: str, assert_readable: Check) -> None:
    drawn: Any = plot(results()[name], TITLE)

    assert drawn._repr_png_().startswith(b"\x89PNG")
    if name != "plane":  # matplotlib's own labels of a 3D axis
        assert_readable(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_title_it_is_still_named(name: str) -> None:
    titles = [axes.get_title(loc="left") for axes in plot(results()[name]).axes]

    assert not any(title.startswith("\n") for title in titles)


def test_names_are_all_results() -> None:
    assert tuple(results()) == NAMES


def test_eigenvalues_and_their_residuals_are_drawn() -> None:
    pairs = results()["eigenpairs"]

    [axes] = plot(pairs, "run").axes

    ratio = pairs.ratio
    about = f"ratio {ratio.value:.4g} in [{ratio.low:.4g}, {ratio.high:.4g}]: {ratio.verdict}, same sign"
    assert axes.get_title(loc="left") == f"run\n{about}"
    assert axes.get_ylabel() == "Eigenvalue of the Hessian"
    points = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_ydata(), pairs.values)


def test_a_result_that_did_not_converge_says_so() -> None:
    assert "not converged" in plot(results()["unconverged"]).axes[0].get_title(loc="left")


def test_a_line_is_drawn_with_its_quadratic_model() -> None:
    line = results()["line"]

    loss, model, _ = plot(line).axes[0].lines

    np.testing.assert_array_equal(loss.get_xydata(), np.stack([AXIS, line.losses.numpy()], axis=1))
    np.testing.assert_array_equal(model.get_ydata(), line.quadratic)


def test_a_single_eigenvalue_has_one_tick() -> None:
    [axes] = plot(results()["one eigenpair"]).axes

    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_a_single_distance_is_drawn_as_points() -> None:
    line = results()["line"]
    one = replace(
        line,
        distances=(line.distances[0][:1],),
        losses=line.losses[:1],
        quadratic=line.quadratic[:1],
    )

    loss, model, _ = plot(one).axes[0].lines

    assert (loss.get_marker(), model.get_marker()) == ("o", "x")
    assert {line.get_marker() for line in plot(line).axes[0].lines} == {"None"}


def test_layers_stand_in_the_models_order_with_their_values() -> None:
    spectra = results()["layers"]

    [axes] = plot(spectra).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == list(spectra) == ["0", "2"]
    drawn = {(float(x), int(y)) for line in axes.lines for x, y in np.asarray(line.get_xydata())}
    assert drawn == {
        (abs(value), row)
        for row, one in enumerate(spectra.values())
        for value in one.pairs.values.tolist()
    }  # fmt: skip


def test_many_layers_with_long_names_are_readable(assert_readable: Check) -> None:
    one = results()["layers"]["0"]
    names = [f"backbone.encoder.layers.{i}.self_attention.projection" for i in range(30)]

    drawn = plot({name: replace(one, layer=name) for name in names}, TITLE)

    assert_readable(drawn)
    assert drawn.axes[0].get_window_extent().width > 200  # pixels


def test_a_layer_whose_values_are_all_zero_says_so() -> None:
    one = results()["layers"]["0"]
    dead = replace(one, layer="dead", pairs=replace(one.pairs, values=torch.zeros(3, dtype=torch.float64)))

    [axes] = plot({"dead": dead}).axes

    assert [label.get_text() for label in axes.get_yticklabels()] == ["dead: all 0"]


@pytest.mark.parametrize("name", ["line", "plane"])
def test_a_loss_that_is_nowhere_finite_is_still_drawn(name: str) -> None:
    lost = replace(results()[name], losses=results()[name].losses * math.nan)

    assert plot(lost)._repr_png_()  # type: ignore[attr-defined]


def test_a_plane_of_one_line_is_refused() -> None:
    plane = results()["plane"]
    line = replace(plane, distances=(plane.distances[0][:1], plane.distances[1]), losses=plane.losses[:1])

    with pytest.raises(ValueError, match="at least two distances along each direction"):
        plot(line)


@pytest.mark.parametrize(
    ("result", "error", "said"),
    [
        (
            torch.ones(3),
            TypeError,
            "a Tensor cannot be drawn; give a result of optstudy.curvature: eigenpairs",
        ),
        (None, TypeError, "a NoneType cannot be drawn"),
        ({}, ValueError, "there is nothing to draw: the result is empty"),
        ({"a": 1}, TypeError, "has the spectra of layers by name, or the values of a tracker by step"),
        ({3: {"loss": math.nan}}, ValueError, "no step has eigenvalues"),
    ],
    ids=["tensor", "none", "empty", "other", "diverged"],
)
def test_what_is_no_result_is_refused_in_one_line(result: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        plot(result)


def test_letters_of_a_title_that_no_font_has_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_fonts_for", lambda lacking: ([], lacking))

    with pytest.warns(UserWarning, match="figures show boxes for \N{CJK UNIFIED IDEOGRAPH-732B}, which no"):
        plot(results()["trace"], "\N{CJK UNIFIED IDEOGRAPH-732B}")


def test_plot_does_not_load_pyplot() -> None:
    code = "import sys, optstudy.figures; sys.exit('matplotlib.pyplot' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
