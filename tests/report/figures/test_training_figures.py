"""The gradient's norm by epoch."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from finals import LOOKS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from optstudy.records.run import EpochRecord
from optstudy.report.figures import gradient_norm


def record(epoch: int, norm: float | None, full: float | None = None) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=0.1,
        train_accuracy=0.97,
        heldout_loss=0.1,
        heldout_accuracy=0.97,
        gradient_norm=norm,
        seconds=1.0,
        finished_at=0.0,
        gradients=600,
        hessian_products=0,
        full_gradient_norm=full,
    )


def axes_and_lines(figure: Figure) -> tuple[Axes, dict[str, Line2D]]:
    (axes,) = figure.axes
    return axes, {str(line.get_label()): line for line in axes.lines}


def test_line_is_the_last_batchs_norm_and_points_are_the_full_gradients() -> None:
    records = [record(1, 2.0), record(2, 0.7, full=0.4), record(3, 0.3, full=0.1)]

    axes, lines = axes_and_lines(gradient_norm(records, "SGD, best, seed 0", LOOKS["sgd"]))

    assert axes.get_yscale() == "log"
    assert axes.get_title(loc="left") == "SGD, best, seed 0"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", "Euclidean norm of the gradient")
    np.testing.assert_array_equal(lines["last mini-batch"].get_xydata(), [[1, 2.0], [2, 0.7], [3, 0.3]])
    np.testing.assert_array_equal(lines["all training examples"].get_xydata(), [[2, 0.4], [3, 0.1]])
    assert lines["last mini-batch"].get_color() == LOOKS["sgd"].colour
    assert lines["last mini-batch"].get_linestyle() == LOOKS["sgd"].line


def test_norm_that_is_not_finite_leaves_a_gap_and_a_cross() -> None:
    records = [record(1, 2.0), record(2, None), record(3, 0.5)]

    _, lines = axes_and_lines(gradient_norm(records, "SGD"))

    np.testing.assert_array_equal(lines["last mini-batch"].get_ydata(), [2.0, np.nan, 0.5])
    np.testing.assert_array_equal(lines["not finite"].get_xdata(), [2])


def test_run_without_a_finite_norm_has_a_message() -> None:
    axes, lines = axes_and_lines(gradient_norm([record(1, None), record(2, None)], "SGD"))

    assert lines == {}
    assert [text.get_text() for text in axes.texts] == ["No finite gradient norm was recorded"]


def test_norm_of_exactly_zero_is_left_out_of_the_logarithm() -> None:
    _, lines = axes_and_lines(gradient_norm([record(1, 0.5), record(2, 0.0, full=0.0)], "SGD"))

    np.testing.assert_array_equal(lines["last mini-batch"].get_ydata(), [0.5, np.nan])
    assert set(lines) == {"last mini-batch"}


@pytest.mark.parametrize(
    "norms",
    [
        [0.5],
        [None],
        [0.5, None, None],
        [3.0, 3.0, 3.0],
        [2.0 * 0.7**epoch for epoch in range(15)],
        [2.0 * 0.9**epoch for epoch in range(150)],
    ],
)
def test_texts_do_not_overlap(
    norms: Sequence[float | None], assert_readable: Callable[[Figure], None]
) -> None:
    records = [record(epoch, norm, full=norm) for epoch, norm in enumerate(norms, start=1)]

    assert_readable(gradient_norm(records, "AdaHessian, paper's configuration, seed 0", LOOKS["adahessian"]))


def test_single_epoch_is_named_by_a_whole_number() -> None:
    axes, _ = axes_and_lines(gradient_norm([record(1, 0.5)], "SGD"))

    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
