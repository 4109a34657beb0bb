"""Errors are one line each; a name is suggested where it is likely to be meant, and nowhere else."""

import pytest

from optstudy.errors import UsageError, closest, count_reasons, one_line, suggestion

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


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("lr is too small"), "ValueError: lr is too small"),
        (RuntimeError("\n\n  CUDA out of\tmemory.\nTried to allocate"), "RuntimeError: CUDA out of memory."),
        (UsageError("no such file"), "no such file"),
        (MemoryError(), "MemoryError: "),
        (_UnprintableError(), "_UnprintableError: "),
        (ValueError("x" * 10_000), f"ValueError: {'x' * 485}..."),
    ],
)
def test_any_exception_is_one_line(error: BaseException, line: str) -> None:
    assert one_line(error) == line


def test_equal_reasons_are_counted_together_the_most_frequent_first() -> None:
    assert count_reasons(["a", "b", "", "b"]) == {"b": 2, "a": 1}
