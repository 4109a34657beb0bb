"""The one style of all figures."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from finals import LOOKS
from matplotlib.colors import to_rgb

from optstudy.records.look import derive_look
from optstudy.report.figures import png
from optstudy.report.figures.axes import accuracy_axis, log_axis
from optstudy.report.figures.style import new_figure, styled, write_note

PAPER = ["sgd", "adagrad", "adam", "adahessian"]
PACKAGED = [*PAPER, "adamw", "rmsprop", "nadam", "radam"]


def test_each_packaged_optimizer_has_a_colour_of_its_own() -> None:
    assert len({LOOKS[name].colour for name in PACKAGED}) == len(PACKAGED)


def test_the_papers_optimizers_differ_in_grey_by_line_and_by_marker() -> None:
    marks = [LOOKS[name] for name in PAPER]

    assert len({mark.line for mark in marks}) == len(PAPER)
    assert len({mark.marker for mark in marks}) == len(PAPER)


@pytest.mark.parametrize("name", PACKAGED)
def test_colours_stand_out_from_white_paper(name: str) -> None:
    """WCAG 2.1 asks for a contrast of 3 for graphics; markers and line styles allow for a little less."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(LOOKS[name].colour)]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))

    assert 1.05 / (luminance + 0.05) > 2


def test_optimizer_that_is_not_known_keeps_its_colour_and_takes_none_of_the_papers() -> None:
    assert LOOKS["lion"] == derive_look("lion")
    assert LOOKS["lion"].colour not in {LOOKS[name].colour for name in PAPER}


def test_labels_are_those_of_the_table() -> None:
    assert [LOOKS[name].label for name in ("adagrad", "lion")] == ["AdaGrad", "lion"]


def test_png_has_the_same_bytes_each_time_and_no_metadata() -> None:
    def draw() -> bytes:
        drawn = new_figure(2, 1)
        drawn.add_subplot().plot([1, 2], [3, 4])
        return png(drawn)

    first = draw()

    assert first == draw()
    assert first.startswith(b"\x89PNG")
    assert not any(chunk in first for chunk in (b"tEXt", b"iTXt", b"zTXt", b"tIME"))


def test_style_does_not_leak_into_the_users_own_figures() -> None:
    before = dict(mpl.rcParams)

    styled(lambda: None)()

    assert dict(mpl.rcParams) == before


def test_note_takes_the_place_of_ticks() -> None:
    axes = new_figure(2, 1).add_subplot()

    write_note(axes, "nothing to see")

    assert [text.get_text() for text in axes.texts] == ["nothing to see"]
    assert list(axes.get_yticks()) == []


@pytest.mark.parametrize("low", [1e-8, 0.013, 0.9, 30.0])
@pytest.mark.parametrize("span", [1.0, 1.01, 2.0, 5.0, 30.0, 1000.0, 1e6])
def test_log_axis_holds_its_values_and_has_a_tick_to_read_them_by(low: float, span: float) -> None:
    axes = new_figure(3, 2).add_subplot()

    log_axis(axes, "y", [low, low * span])

    bottom, top = axes.get_ylim()
    assert bottom < low <= low * span < top
    labels = [label.get_text() for label in axes.get_yticklabels()]
    ticks = [tick for tick, label in zip(axes.get_yticks(), labels, strict=True) if label]
    assert any(bottom <= tick <= top for tick in ticks)


def test_log_axis_without_a_positive_value_still_has_limits() -> None:
    axes = new_figure(3, 2).add_subplot()

    log_axis(axes, "x", [0.0, -1.0])

    assert 0 < axes.get_xlim()[0] < axes.get_xlim()[1]


@pytest.mark.parametrize(
    "percents",
    [[98.2], [9.8, 99.1], [98.7, 98.9, 99.0], [0.0, 100.0], [100.0], [0.0], [99.99, 100.0], []],
)
def test_accuracy_axis_holds_its_values_and_has_ticks(percents: list[float]) -> None:
    axes = new_figure(3, 2).add_subplot()

    accuracy_axis(axes, "y", percents)

    bottom, top = axes.get_ylim()
    assert 0 <= bottom < top <= 100
    assert all(bottom <= min(percent, 99.99) <= top for percent in percents)
    assert sum(bottom <= tick <= top for tick in axes.get_yticks()) >= 2


def test_accuracy_axis_sets_equal_ratios_of_error_equally_far_apart() -> None:
    axes = new_figure(3, 2).add_subplot()

    accuracy_axis(axes, "y", [80.0, 99.9])

    heights = axes.transData.transform([(0, 90), (0, 95), (0, 99), (0, 99.5)])[:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[3] - heights[2])


def test_figures_do_not_load_pyplot() -> None:
    code = "import sys, optstudy.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
