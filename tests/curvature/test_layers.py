"""Spectra layer by layer are those of the diagonal blocks of the dense Hessian."""

import copy
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import iter_layer_spectra, layer_spectra, spectral_density


class Mixed(nn.Module):
    """Layers of several kinds, one of them nested, and a parameter of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.body = nn.ModuleDict({"first": nn.Linear(3, 5), "norm": nn.LayerNorm(5)})
        self.head = nn.Linear(5, 4)
        self.head_two = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body["first"](self.scale * x))
        found: Tensor = self.head_two(torch.tanh(self.head(self.body["norm"](hidden))))
        return found


def mixed() -> nn.Module:
    torch.manual_seed(0)
    return Mixed()


def blocks(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Return the dense blocks, found by two backward passes in float64."""
    whole, start = oracles.double_backward(model, cross_entropy, batch), 0
    places: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            places.setdefault(name.rpartition(".")[0], []).extend(range(start, start + parameter.numel()))
            start += parameter.numel()
    return {layer: whole[rows][:, rows] for layer, rows in places.items()}


@pytest.mark.parametrize("several", [False, True])
def test_each_layers_values_are_those_of_its_block(several: bool) -> None:
    model, batch = mixed(), oracles.examples()
    data = oracles.chunks(batch, 6, 7) if several else batch

    found = layer_spectra(model, cross_entropy, data, k=4, dtype=torch.float64)

    expected = blocks(model, batch)
    assert list(found) == list(expected) == ["", "body.first", "body.norm", "head", "head_two"]
    for layer, block in expected.items():
        pairs, values = found[layer].pairs, oracles.by_magnitude(block)
        assert torch.allclose(pairs.values, values[: len(pairs.values)], atol=1e-5)
        assert pairs.converged
    assert found["head"].parameters == ("head.weight", "head.bias")
    assert [len(one.pairs.values) for one in found.values()] == [3, 4, 4, 4, 4]  # `scale` has three entries
    assert all(one.density is None for one in found.values())


def test_a_block_is_never_larger_than_the_whole() -> None:
    model, batch = mixed(), oracles.examples()
    largest = float(oracles.by_magnitude(oracles.double_backward(model, cross_entropy, batch))[0].abs())

    found = layer_spectra(model, cross_entropy, batch, k=1)

    assert max(float(one.pairs.values[0].abs()) for one in found.values()) <= largest * (1 + 1e-4)


def test_a_density_is_that_of_the_block() -> None:
    model, batch = mixed(), oracles.examples()

    found = layer_spectra(
        model, cross_entropy, batch, density=True, parameters=["head.*"], dtype=torch.float64
    )

    assert list(found) == ["head"]
    density = found["head"].density
    assert density is not None
    expected = spectral_density(oracles.dense(blocks(model, batch)["head"]))
    assert torch.allclose(density.grid, expected.grid, atol=1e-9)
    assert torch.allclose(density.density, expected.density, rtol=1e-4, atol=1e-6)


def test_parametrizations_belong_to_their_layer_and_frozen_parameters_to_none() -> None:
    model = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)), nn.Linear(3, 4))
    model[1].bias.requires_grad_(False)

    found = layer_spectra(model, cross_entropy, oracles.examples(), k=1)

    assert {layer: one.parameters for layer, one in found.items()} == {
        "0": ("0.bias", "0.parametrizations.weight.original"),
        "1": ("1.weight",),
    }


def test_a_shared_parameter_belongs_to_its_first_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 4))
    model[2].weight = model[0].weight

    found = layer_spectra(model, cross_entropy, oracles.examples(), k=1)

    assert [one.parameters for one in found.values()] == [
        ("0.weight", "0.bias"),
        ("2.bias",),
        ("3.weight", "3.bias"),
    ]


def test_layers_can_be_iterated_one_by_one_and_the_model_stays_as_it_was() -> None:
    model, batch = mixed(), oracles.examples()
    before = copy.deepcopy(model.state_dict())

    *progress, found = iter_layer_spectra(model, cross_entropy, batch, k=1)

    assert [(step.done, step.total) for step in progress] == [(done, 5) for done in range(1, 6)]  # type: ignore[union-attr]
    assert [list(step.estimate) for step in progress] == [list(found)[:done] for done in range(1, 6)]  # type: ignore[union-attr, arg-type]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
