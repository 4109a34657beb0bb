"""A name is suggested where it is likely to be meant, and nowhere else."""

import pytest

from optstudy.errors import closest, suggestion

KEYS = ("trials", "seeds", "seed", "batch", "batch_size", "model", "sgd", "adam", "make")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trails", "trials"),
        ("sdg", "sgd"),
        ("mkae", "make"),
        ("batchsize", "batch_size"),
        ("modell", "model"),
        ("adamm", "adam"),
    ],
)
def test_a_slip_of_the_hand_is_understood(typed: str, meant: str) -> None:
    assert closest(typed, KEYS) == meant
    assert suggestion(typed, KEYS) == f" (did you mean '{meant}'?)"


@pytest.mark.parametrize("typed", ["patch", "need", "tail", "hotel", "dam", "lion", ""])
def test_what_merely_resembles_a_name_is_not_suggested(typed: str) -> None:
    assert closest(typed, ("trials", "seeds", "batch_size", "model", "adamax")) is None
    assert suggestion("lion", KEYS) == ""
