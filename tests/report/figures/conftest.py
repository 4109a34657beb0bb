"""What every figure promises."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

Check = Callable[[Figure], None]


def off_the_axis(axis: Axis) -> set[Text]:
    """Labels of ticks beyond the limits, which matplotlib keeps and does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return {
        label for tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)
    }


def drawn_texts(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Yield each text that can be seen, with its place in pixels."""
    figure.draw_without_rendering()
    hidden = {
        label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in off_the_axis(axis)
    }
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            yield text.get_text(), text.get_window_extent()


@pytest.fixture
def assert_readable() -> Check:
    """Check that no text overlaps another and none leaves the sheet."""

    def check(figure: Figure) -> None:
        texts = list(drawn_texts(figure))
        sheet = figure.bbox.padded(1)
        outside = [text for text, box in texts if not (sheet.contains(*box.min) and sheet.contains(*box.max))]
        assert texts
        assert outside == []
        assert [(a[0], b[0]) for a, b in combinations(texts, 2) if a[1].padded(-0.5).overlaps(b[1])] == []

    return check
