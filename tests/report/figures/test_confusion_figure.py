"""The confusion matrix."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optstudy.report.figures import confusion

DIGITS = [str(digit) for digit in range(10)]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def heat_map(figure: Figure) -> Axes:
    return figure.axes[0]


def percents(figure: Figure) -> np.ma.MaskedArray:
    (image,) = heat_map(figure).images
    return np.ma.masked_array(image.get_array())


def numbers(figure: Figure) -> dict[tuple[int, int], str]:
    """Text of each cell by true and predicted class."""
    placed = ((text.get_position(), text.get_text()) for text in heat_map(figure).texts)
    return {(int(y), int(x)): text for (x, y), text in placed}


def predictions(classes: int, count: int, seed: int = 0) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    wrong = generator.integers(0, classes, count)
    return labels.tolist(), np.where(generator.random(count) < 0.9, labels, wrong).tolist()


def test_cells_are_shares_of_the_true_class_in_per_cent() -> None:
    figure = confusion([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], ["no", "yes"], "SGD, best, seed 0")

    np.testing.assert_allclose(percents(figure), [[75, 25], [50, 50]])
    assert numbers(figure) == {(0, 0): "75.0", (0, 1): "25.0", (1, 0): "50.0", (1, 1): "50.0"}


def test_heat_map_equals_counting_by_hand() -> None:
    labels, predicted = predictions(10, 500)
    counts = np.zeros((10, 10))
    for label, guess in zip(labels, predicted, strict=True):
        counts[label, guess] += 1

    figure = confusion(labels, predicted, DIGITS, "SGD")

    np.testing.assert_allclose(percents(figure), 100 * counts / counts.sum(axis=1, keepdims=True))


def test_axes_name_classes_title_and_what_is_shown() -> None:
    figure = confusion([0, 1], [0, 1], ["cat", "dog"], "Adam, best, seed 0")

    axes, bar = figure.axes
    assert axes.get_title(loc="left") == "Adam, best, seed 0\ntest examples"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert bar.get_ylabel() == "Share of the true class (%)"


def test_cell_that_is_exactly_zero_has_no_number() -> None:
    assert numbers(confusion([0, 1], [0, 1], ["a", "b"], "")) == {(0, 0): "100", (1, 1): "100"}


def test_one_error_in_ten_thousand_does_not_round_to_a_hundred() -> None:
    cells = numbers(confusion([0] * 10_000 + [1], [1] + [0] * 9_999 + [1], ["a", "b"], ""))

    assert cells[0, 0] == "99.9"
    assert cells[0, 1] == "<0.1"


def test_class_without_images_is_masked_not_zero() -> None:
    figure = confusion([0, 0, 2], [0, 1, 2], ["a", "b", "c"], "")

    mask = np.ma.getmaskarray(percents(figure))
    assert mask.all(axis=1).tolist() == [False, True, False]
    assert {row for row, _ in numbers(figure)} == {0, 2}


def test_up_to_twenty_classes_have_numbers_and_more_have_none() -> None:
    few, many = (
        confusion(*predictions(count, 2000), [str(i) for i in range(count)], "") for count in (20, 21)
    )

    assert numbers(few)
    assert not numbers(many)


@pytest.mark.parametrize(
    "classes",
    [["a", "b"], DIGITS, FASHION, [str(i) for i in range(20)], [f"class {i}" for i in range(100)]],
    ids=["two", "digits", "fashion", "twenty", "hundred"],
)
def test_texts_do_not_overlap(classes: list[str], assert_readable: Callable[[Figure], None]) -> None:
    assert_readable(confusion(*predictions(len(classes), 4000), classes, "AdaHessian, best, seed 0"))
