"""What a search needs: the vectors that it keeps, an estimate beforehand, and what is said where it does not fit."""

from pathlib import Path

import oracles
import pytest
import torch
from torch import Tensor

from optstudy.curvature import Operator, estimate_cost, top_eigenpairs
from optstudy.curvature import cost as costs

A = oracles.symmetric(oracles.bulk(3.0, 2.0, dim=100))


def huge(dim: int = 10**11) -> Operator:
    return Operator(lambda rows: rows, dim, torch.float32, torch.device("cpu"), "huge")


def test_an_estimate_has_the_time_of_a_product_and_the_size_of_the_vectors() -> None:
    found = estimate_cost(A.operator(), k=2, memory=20)

    assert found.product_seconds > 0
    assert (found.memory, found.bytes) == (20, 20 * 100 * 8)
    assert found.free_bytes is None or found.free_bytes > found.bytes


@pytest.mark.parametrize(
    ("dim", "k", "vectors"), [(62_000, 2, 128), (11_173_962, 2, 20), (10**8, 2, 20), (62_000, 100, 208)]
)
def test_a_search_keeps_the_vectors_that_fit_and_at_least_those_that_it_needs(
    dim: int, k: int, vectors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "free_bytes", lambda _: None)

    assert costs.kept_vectors(huge(dim), k, None) == vectors


def test_vectors_that_do_not_fit_are_refused_before_a_product_with_the_number_that_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "free_bytes", lambda _: 10 * 4 * 10**11)

    with pytest.raises(
        MemoryError, match=r"20 vectors of 100000000000 entries take 8000\.0 GB.*memory=10 would"
    ):
        top_eigenpairs(huge())
    monkeypatch.setattr(costs, "free_bytes", lambda _: 4 * 10**11)
    with pytest.raises(MemoryError, match="a search needs 7 of them"):
        top_eigenpairs(huge())


@pytest.mark.parametrize("memory", [0, 6])
def test_too_few_vectors_are_an_error(memory: int) -> None:
    with pytest.raises(ValueError, match=f"memory is {memory}; give at least 7 vectors for k = 2"):
        top_eigenpairs(A.operator(), memory=memory)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells the memory that is free")
def test_free_memory_is_known_on_linux() -> None:
    found = costs.free_bytes(torch.device("cpu"))

    assert found is not None
    assert 10**6 < found < 10**15


def test_vectors_are_kept_in_main_memory_where_the_device_has_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu = Operator(lambda rows: rows, 10**6, torch.float32, torch.device("cuda"), "on a GPU")
    monkeypatch.setattr(costs, "free_bytes", lambda _: 100 * 4 * 10**6)

    assert costs.basis_device(on_gpu, 40).type == "cuda"
    assert costs.basis_device(on_gpu, 60).type == "cpu"


def test_an_interrupted_search_says_what_was_found() -> None:
    products = 0

    def apply(rows: Tensor) -> Tensor:
        nonlocal products
        products += 1
        if products > 8:
            raise KeyboardInterrupt
        return rows @ A.matrix

    with pytest.raises(KeyboardInterrupt) as caught:
        top_eigenpairs(Operator(apply, 100, torch.float64, torch.device("cpu"), "interrupted"))

    (note,) = caught.value.__notes__
    assert note == "After 8 products the first values were 3, 2, not yet certified."
