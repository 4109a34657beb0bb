"""The curvature of a run: its ratio step by step, and spectrum and landscapes where it ended."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finals import LOOKS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optstudy.curvature import Stability
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.report.figures import eigen_ratio, landscape_line, landscape_plane, png, sample_sweep, spectrum

Check = Callable[[Figure], None]

LONG = "a-study-with-a-long-name/adahessian/default/seed-10"
SGD = Stability(20.0, preconditioned=False, formula="2 / lr")
ADAM = Stability(38_000.0, preconditioned=True, formula="(2 + 2 beta_1) / ((1 - beta_1) lr)")


def trace(count: int = 100, scaled: int = 0, **changes: Any) -> EigenTrace:
    draws = np.random.default_rng(0)
    first, second = draws.uniform(6, 8, count), draws.uniform(4, 6, count)
    ratio = first / second
    values: dict[str, Any] = {
        "step": np.arange(500, 500 + count),
        "values": np.stack([first, second], axis=1),
        "residuals": np.full((count, 2), 1e-3),
        "ratio": ratio,
        "low": 0.99 * ratio,
        "high": 1.01 * ratio,
        "verdict": np.array(["separated"] * count),
        "sign": np.array(["same"] * count),
        "verified": np.arange(count) % 25 == 0,
        "probability": np.full(count, 0.01),
        "angle": np.full(count, 0.1),
        "gradient_share": np.full(count, 0.5),
        "products": np.full(count, 3.0),
        "preconditioned_step": 500 + 25 * np.arange(scaled),
        "preconditioned": draws.uniform(900, 1100, scaled),
    }
    return EigenTrace(**{**values, **changes})


def result(**changes: Any) -> CurvatureResult:
    axis = np.linspace(-1, 1, 41)
    grid = np.linspace(-1, 4, 200)
    density = np.exp(-(grid**2) / 0.01)
    values: dict[str, Any] = {
        "samples": 100,
        "values": np.array([3.65, -2.54]),
        "residuals": np.array([1e-3, 1e-3]),
        "ratio": np.array([1.44, 1.43, 1.45]),
        "verdict": "separated",
        "probability": 0.01,
        "dtype": "float32",
        "products": 20,
        "trace": np.array([9.0, 8.0, 10.0]),
        "distances": axis,
        "line": 0.2 + 2 * axis**2,
        "line_model": 0.2 + 1.9 * axis**2,
        "plane": 0.2 + 2 * axis[:, None] ** 2 + axis**2,
        "plane_model": 0.2 + 2 * axis[:, None] ** 2 + axis**2,
        "grid": grid,
        "density": density,
        "spread": 0.1 * density,
        "change": 0.01,
    }
    return CurvatureResult(**{**values, **changes})


def named(axes: Axes) -> dict[str, Line2D]:
    handles, labels = axes.get_legend_handles_labels()
    return {
        label: handle for label, handle in zip(labels, handles, strict=True) if isinstance(handle, Line2D)
    }


def points(lines: list[Line2D], marker: str) -> int:
    return sum(np.size(line.get_xdata()) for line in lines if line.get_marker() == marker)


class TestRatio:
    """Figure 3 of the paper."""

    def test_axes_name_what_they_show(self) -> None:
        top, below = eigen_ratio(trace(), LONG, LOOKS["sgd"]).axes

        assert top.get_title(loc="left").startswith(f"{LONG}\n")
        assert top.get_ylabel() == r"$|\lambda_1|\,/\,|\lambda_2|$"
        assert (below.get_xlabel(), below.get_ylabel()) == ("Step", "Eigenvalue")

    def test_the_ratio_and_both_values_are_drawn_step_by_step(self) -> None:
        seen = trace(10)

        top, below = eigen_ratio(seen, "", LOOKS["sgd"]).axes

        np.testing.assert_array_equal(top.lines[0].get_xydata(), np.stack([seen.step, seen.ratio], axis=1))
        for index, name in enumerate((r"$\lambda_1$", r"$\lambda_2$")):
            line = named(below)[name]
            np.testing.assert_array_equal(line.get_ydata(), seen.values[:, index])
        styles = {line.get_linestyle() for line in named(below).values()}
        assert len(styles) == 2  # apart in grey

    def test_every_step_has_a_mark_by_verdict_filled_where_checked(self) -> None:
        verdict = np.array(["separated", "degenerate", "indefinite", "unresolved"] * 3)
        seen = trace(12, verdict=verdict, verified=np.arange(12) < 4)

        top = eigen_ratio(seen, "", LOOKS["sgd"]).axes[0]

        assert [points(list(top.lines), marker) for marker in "osvx"] == [3, 3, 3, 3]
        assert set(named(top)) == {"separated", "degenerate", "opposite signs", "unresolved"}

    def test_steps_with_opposite_or_open_signs_are_marked_at_the_foot(self) -> None:
        sign = np.array(["same", "opposite", "opposite", "open"])

        top = eigen_ratio(trace(4, sign=sign), "", LOOKS["sgd"]).axes[0]

        assert list(named(top)) == ["separated", "opposite signs", "sign open"]
        assert np.asarray(named(top)["opposite signs"].get_xdata()).tolist() == [501, 502]
        assert np.asarray(named(top)["sign open"].get_xdata()).tolist() == [503]

    def test_a_trace_of_earlier_versions_shows_opposite_signs_as_their_verdict(self) -> None:
        verdict, sign = np.array(["separated", "indefinite"]), np.array(["", "opposite"])

        top = eigen_ratio(trace(2, verdict=verdict, sign=sign), "", LOOKS["sgd"]).axes[0]

        assert list(named(top)) == ["separated", "opposite signs"]
        assert points(list(top.lines), "v") == 1

    def test_a_verdict_is_named_even_where_no_step_of_it_was_checked(self) -> None:
        verdict = np.array(["separated"] * 99 + ["degenerate"])

        top = eigen_ratio(trace(verdict=verdict), "", LOOKS["sgd"]).axes[0]

        assert list(named(top)) == ["separated", "degenerate"]

    def test_the_threshold_is_drawn_with_its_formula(self) -> None:
        near = Stability(6.0, False, "2 / lr")

        below = eigen_ratio(trace(), "", LOOKS["sgd"], near).axes[1]

        line = named(below)["2 / lr\n(full-batch\nheuristic)"]
        assert set(np.asarray(line.get_ydata()).tolist()) == {6.0}

    @pytest.mark.parametrize("threshold", [20_000.0, math.inf])
    def test_a_threshold_far_above_is_named_and_leaves_the_values_their_room(self, threshold: float) -> None:
        below = eigen_ratio(trace(), "", LOOKS["sgd"], Stability(threshold, False, "2 / lr")).axes[1]

        assert below.get_ylim()[1] < 10
        assert f"2 / lr\n(full-batch\nheuristic)\nis {threshold:.3g}" in named(below)

    def test_a_preconditioned_threshold_has_its_own_panel(self) -> None:
        drawn = eigen_ratio(trace(scaled=4), "", LOOKS["adam"], ADAM)

        _, values, scaled = drawn.axes
        assert set(named(values)) == {r"$\lambda_1$", r"$\lambda_2$"}
        assert len(named(scaled)) == 1
        low, high = scaled.get_ylim()
        assert low < float(np.min(np.asarray(scaled.lines[0].get_ydata())))
        assert high > ADAM.threshold

    def test_a_line_breaks_where_its_sign_changes(self) -> None:
        values = np.array([[3.0, 2.0], [-3.0, 2.0], [-3.1, 2.0], [3.2, 2.0]])

        below = eigen_ratio(trace(4, values=values), "", LOOKS["adam"]).axes[1]

        drawn = np.asarray(named(below)[r"$\lambda_1$"].get_ydata(), dtype=float)
        np.testing.assert_array_equal(drawn, [3.0, np.nan, -3.0, -3.1, np.nan, 3.2])

    def test_negative_values_of_a_logarithmic_panel_are_drawn_and_named(self) -> None:
        seen = trace(scaled=4, preconditioned=np.array([5.0, -7.0, 6.0, -8.0]))

        scaled = eigen_ratio(seen, LONG, LOOKS["adam"], ADAM).axes[2]

        assert np.asarray(named(scaled)["negative"].get_ydata()).tolist() == [7.0, 8.0]

    @pytest.mark.parametrize(
        "seen",
        [
            trace(),
            trace(1),
            trace(scaled=4),
            trace(scaled=1),
            trace(verdict=np.array(["separated", "degenerate", "indefinite", "unresolved"] * 25)),
            trace(
                verdict=np.array(["separated", "degenerate", "unresolved", "separated"] * 25),
                sign=np.array(["opposite", "same", "open", "same"] * 25),
            ),
            trace(3, ratio=np.full(3, np.nan), high=np.full(3, np.inf), values=np.zeros((3, 2))),
            trace(2, values=np.full((2, 2), np.nan), ratio=np.full(2, np.nan), low=np.full(2, np.nan)),
            trace(2, scaled=2, preconditioned=np.full(2, np.nan)),
            trace(5, step=np.arange(89_995, 90_000)),
        ],
        ids=[
            "hundred",
            "one",
            "scaled",
            "scaled once",
            "verdicts",
            "signs",
            "zero",
            "nothing",
            "lost",
            "late",
        ],
    )
    @pytest.mark.parametrize("stability", [None, SGD, ADAM, Stability(math.inf, True, "2 / lr")])
    def test_texts_do_not_overlap(
        self, seen: EigenTrace, stability: Stability | None, assert_readable: Check
    ) -> None:
        if not len(seen.preconditioned) and stability is not None and stability.preconditioned:
            stability = SGD

        assert_readable(eigen_ratio(seen, LONG, LOOKS["adam"], stability))


class TestLine:
    """Figure 2 of the paper."""

    def test_the_loss_is_drawn_with_its_quadratic_model(self) -> None:
        found = result()

        [axes] = landscape_line(found, LONG, LOOKS["sgd"]).axes

        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Distance along the first eigenvector", "Loss")
        np.testing.assert_array_equal(named(axes)["loss on 100 examples"].get_ydata(), found.line)
        np.testing.assert_array_equal(named(axes)["quadratic model"].get_ydata(), found.line_model)
        assert named(axes)["loss on 100 examples"].get_color() == LOOKS["sgd"].colour

    @pytest.mark.parametrize(
        "loss", [np.full(41, 2.0), np.full(41, np.inf), np.r_[np.inf, np.ones(39), np.nan]]
    )
    def test_a_loss_that_is_flat_or_not_finite_is_drawn_all_the_same(
        self, loss: np.ndarray, assert_readable: Check
    ) -> None:
        drawn = landscape_line(result(line=loss), LONG)

        assert_readable(drawn)
        assert png(drawn)


class TestPlane:
    """Figures 8 to 11 of the paper."""

    def test_surface_and_contours_share_their_axes_names(self) -> None:
        surface, flat, bar = landscape_plane(result(), LONG).axes

        for axes in (surface, flat):
            assert "1st" in axes.get_xlabel()
            assert "2nd" in axes.get_ylabel()
        assert bar.get_ylabel() == "Loss"

    def test_the_first_eigenvector_runs_along_x(self) -> None:
        axis = result().distances
        found = result(plane=np.repeat(axis[:, None] ** 2, 41, axis=1))  # bent along the first alone

        flat = landscape_plane(found, "").axes[1]

        corners = [np.asarray(path.vertices) for path in flat.collections[1].get_paths() if len(path)]
        assert corners
        for level in corners:  # contours stand upright, one on each side
            assert len(set(level[:, 0].round(6))) <= 2
            assert len(set(level[:, 1].round(6))) == 41

    def test_the_lowest_label_stays_on_the_sheet_beside_the_surface(self) -> None:
        drawn = landscape_plane(result(), LONG)
        drawn.draw_without_rendering()

        assert drawn.axes[1].xaxis.label.get_window_extent().y0 > 1

    @pytest.mark.parametrize(
        "plane",
        [
            result().plane,
            np.full((41, 41), 2.0),
            np.full((41, 41), np.inf),
            np.where(np.arange(41) < 10, np.nan, result().plane),
            1e-9 * result().plane,
            1e7 * result().plane,
        ],
        ids=["bowl", "flat", "infinite", "partly", "small", "large"],
    )
    def test_any_plane_is_drawn_without_overlaps(self, plane: np.ndarray, assert_readable: Check) -> None:
        drawn = landscape_plane(result(plane=plane), LONG)

        assert png(drawn)
        drawn.axes[0].remove()  # its labels are turned, so that their boxes overlap where they do not
        assert_readable(drawn)


class TestSpectrum:
    """The density of eigenvalues."""

    def test_density_and_both_eigenvalues_are_drawn(self) -> None:
        found = result()

        [axes] = spectrum(found, LONG, LOOKS["sgd"]).axes

        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("Eigenvalue", "Density", "log")
        drawn = np.nan_to_num(
            np.asarray(axes.lines[0].get_ydata(), dtype=float)
        )  # what is below the axes is left out
        assert drawn == pytest.approx(found.density, abs=1e-6)
        lines = named(axes)
        assert list(lines) == [r"$\lambda_1 = 3.65$", r"$\lambda_2 = -2.54$"]
        assert len({line.get_linestyle() for line in lines.values()}) == 2

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"density": np.zeros(200), "spread": np.zeros(200)},
            {"values": np.array([-123456.0, 0.000123])},
            {"values": np.array([3.65])},
            {"values": np.array([3.65, -2.54, 1.0])},
        ],
        ids=["usual", "nothing", "far", "one", "three"],
    )
    def test_texts_do_not_overlap(self, changes: dict[str, Any], assert_readable: Check) -> None:
        assert_readable(spectrum(result(**changes), LONG, LOOKS["sgd"]))


def measured(run: str, at: str, samples: int, seed: int, **changes: Any) -> CurvatureResult:
    values: dict[str, Any] = {
        "run": run,
        "optimizer": run.split("/")[1] if "/" in run else "",
        "at": at,
        "samples": samples,
        "seed": seed,
        "values": np.array([-(5 + seed + 50 / samples), 2.0]),
        "ratio": np.array([2.5 + seed, 2.4, 2.6]),
    }
    return result(**{**values, **changes})


def sweep(
    names: list[str],
    ats: tuple[str, ...] = ("end",),
    sizes: tuple[int, ...] = (100, 300, 1000, 10_000, 60_000),
) -> list[CurvatureResult]:
    return [
        measured(name, at, size, seed) for name in names for at in ats for size in sizes for seed in range(3)
    ]


class TestSweep:
    """The curvature against the size of the sample."""

    def test_means_join_the_draws_of_each_size(self) -> None:
        top, bottom = sample_sweep(sweep(["s/sgd/seed-0"], sizes=(10, 100)), LOOKS).axes

        means = next(line for line in top.lines if line.get_marker() == "None")
        np.testing.assert_allclose(np.asarray(means.get_xydata()), np.array([[10, 11], [100, 6.5]]))
        assert points(list(top.lines), "o") == 6
        assert bottom.get_xlabel() == "Training examples in the sample"
        assert (bottom.get_xscale(), top.get_yscale(), bottom.get_yscale()) == ("log", "log", "log")

    def test_sizes_are_written_on_the_axis(self, assert_readable: Check) -> None:
        drawn = sample_sweep(sweep(["s/sgd/seed-0"]), LOOKS)

        assert_readable(drawn)
        labels = [label.get_text() for label in drawn.axes[1].get_xticklabels()]
        assert labels == ["60,000", "10,000", "1,000", "300", "100"]

    @pytest.mark.parametrize(
        "found",
        [
            sweep(["s/sgd/seed-0"], sizes=(100,)),
            sweep(["/a/folder/of/mine/weights.pt"], sizes=(1, 2, 3, 4, 5, 6, 7, 60_000)),
            sweep(
                [f"a-study-with-a-name/adahessian/paper/seed-{seed}" for seed in range(6)], ("start", "end")
            ),
            sweep(
                [
                    f"s/{name}/seed-{seed}"
                    for name in ("sgd", "adam", "adagrad", "adahessian")
                    for seed in range(5)
                ]
            ),
            [
                measured(
                    "s/sgd/seed-0",
                    "end",
                    10,
                    0,
                    ratio=np.array([math.inf, 1.0, math.inf]),
                    values=np.zeros(2),
                )
            ],
        ],
        ids=["one size", "checkpoint", "long names", "many runs", "no curvature"],
    )
    def test_texts_do_not_overlap(self, found: list[CurvatureResult], assert_readable: Check) -> None:
        drawn = sample_sweep(found, LOOKS)

        assert_readable(drawn)
        assert png(drawn)
