"""The loss along a line and over a plane, and its quadratic model."""

from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import filter_normalised, loss_landscape, top_eigenpairs

X, Y = oracles.examples()
DISTANCES = [-0.5, -0.1, 0.0, 0.2, 1.0]


def directions(count: int, dim: int = 44) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(model: nn.Module, moved: Tensor) -> float:
    at, weights = oracles.of_weights(model, oracles.loss_of(model, functional.cross_entropy, (X, Y)))
    return float(at(weights + moved))


@pytest.mark.parametrize("data", [(X, Y), oracles.chunks((X, Y), 2, 6, 5)], ids=["one", "several"])
def test_each_point_is_the_loss_there(data: Any) -> None:
    model, d = oracles.net(3, 5, 4), directions(2)

    found = loss_landscape(
        model, functional.cross_entropy, data, d, [DISTANCES, [0.0, 0.7]], dtype=torch.float64
    )

    assert found.losses.shape == found.quadratic.shape == (5, 2)
    for i, a in enumerate(DISTANCES):
        for j, b in enumerate([0.0, 0.7]):
            assert float(found.losses[i, j]) == pytest.approx(by_hand(model, a * d[0] + b * d[1]), rel=1e-12)


def test_the_centre_is_the_loss_and_line_and_plane_agree() -> None:
    model, d = oracles.net(3, 5, 4), directions(2)

    line = loss_landscape(model, functional.cross_entropy, (X, Y), d[:1], [DISTANCES])
    plane = loss_landscape(model, functional.cross_entropy, (X, Y), d, [DISTANCES, [0.0, 0.3]])

    assert float(line.losses[2]) == line.loss
    assert float(line.quadratic[2]) == line.loss
    assert line.losses.shape == (5,)
    assert torch.equal(line.losses, plane.losses[:, 0])
    assert torch.allclose(line.quadratic, plane.quadratic[:, 0], rtol=1e-6)
    assert [axis.tolist() for axis in plane.distances] == [DISTANCES, [0.0, 0.3]]


def test_slopes_and_curvatures_are_those_of_the_dense_ones() -> None:
    model, d = oracles.net(3, 5, 4), directions(2)
    h = oracles.dense_hessian(model, functional.cross_entropy, (X, Y))
    g = oracles.dense_gradient(model, functional.cross_entropy, (X, Y))

    found = loss_landscape(model, functional.cross_entropy, (X, Y), d, [[0.5], [0.25]], dtype=torch.float64)

    assert torch.allclose(found.slopes, d @ g)
    assert torch.allclose(found.curvatures, d @ h @ d.T)
    a = torch.tensor([0.5, 0.25], dtype=torch.float64)
    expected = found.loss + a @ found.slopes + a @ found.curvatures @ a / 2
    assert float(found.quadratic[0, 0]) == pytest.approx(float(expected))


def test_the_quadratic_model_of_a_quadratic_loss_is_the_loss() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, -2.0, dim=12))
    model = oracles.Quadratic(torch.linspace(-1, 1, 12, dtype=torch.float64))

    found = loss_landscape(
        model, oracles.quadratic_loss(a.matrix), oracles.NOTHING, directions(2, 12), [DISTANCES, DISTANCES]
    )

    assert torch.allclose(found.losses, found.quadratic, rtol=1e-12, atol=1e-12)


def test_the_second_difference_along_an_eigenvector_is_its_eigenvalue() -> None:
    """Richardson's extrapolation of central differences: off by h^4, some 1e-9, and rounding, 1e-16 / h^2."""
    model, h = oracles.net(3, 5, 4).double(), 1e-2
    batch = X.double(), Y
    pairs = top_eigenpairs(model, functional.cross_entropy, batch, k=2, tolerance=1e-9)
    for i in range(2):
        line = loss_landscape(
            model, functional.cross_entropy, batch, pairs.vectors[i : i + 1], [[-h, -h / 2, 0.0, h / 2, h]]
        )
        far, near, centre, near_, far_ = line.losses.tolist()
        coarse, fine = (far - 2 * centre + far_) / h**2, (near - 2 * centre + near_) / (h / 2) ** 2
        assert (4 * fine - coarse) / 3 == pytest.approx(float(pairs.values[i]), rel=1e-6)
        assert float(line.curvatures[0, 0]) == pytest.approx(float(pairs.values[i]), rel=1e-9)


def test_several_batches_give_the_landscape_of_one() -> None:
    model, d = oracles.net(3, 5, 4), directions(2)
    axes = [DISTANCES, [0.0, 0.3]]
    one = loss_landscape(model, functional.cross_entropy, (X, Y), d, axes, dtype=torch.float64)

    several = loss_landscape(
        model, functional.cross_entropy, oracles.chunks((X, Y), 2, 6, 5), d, axes, dtype=torch.float64
    )

    assert torch.allclose(one.losses, several.losses, rtol=1e-12)
    assert torch.allclose(one.quadratic, several.quadratic, rtol=1e-12)


def test_parameters_can_be_a_part() -> None:
    model, d = oracles.net(3, 5, 4), directions(1, 24)

    found = loss_landscape(
        model, functional.cross_entropy, (X, Y), d, [[0.5]], parameters="2.*", dtype=torch.float64
    )

    moved = torch.cat([torch.zeros(20, dtype=torch.float64), 0.5 * d[0]])
    assert float(found.losses[0]) == pytest.approx(by_hand(model, moved), rel=1e-12)


def test_a_loss_that_raises_leaves_the_model_unchanged() -> None:
    model, calls = oracles.net(3, 5, 4), 0
    torch.autograd.backward(functional.cross_entropy(model(X), Y))
    before = oracles.snapshot(model)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise RuntimeError("no loss today")
        return functional.cross_entropy(z, y)

    with pytest.raises(RuntimeError, match="no loss today"):
        loss_landscape(model, loss, (X, Y), directions(1), [DISTANCES])
    assert calls == 6
    assert oracles.same(before, oracles.snapshot(model))


def test_a_loss_that_overflows_far_from_the_centre_is_infinite() -> None:
    model = oracles.net(3, 5, 4)
    d = torch.zeros(1, 44)
    d[0, -1] = 1e30

    found = loss_landscape(model, lambda z, _: z.square().mean(), (X, Y), d, [[0.0, 1e10]])

    assert bool(found.losses[0].isfinite())
    assert bool(found.losses[1].isinf())


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((44,), [DISTANCES], r"must be \(1, 44\) or \(2, 44\)"),
        ((3, 44), [DISTANCES] * 3, r"must be \(1, 44\) or \(2, 44\)"),
        ((1, 43), [DISTANCES], r"has shape \(1, 43\)"),
        ((2, 44), [DISTANCES], "2 directions, but distances for 1"),
    ],
)
def test_directions_of_another_shape_are_an_error(shape: tuple[int, ...], axes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_landscape(oracles.net(3, 5, 4), functional.cross_entropy, (X, Y), torch.ones(shape), axes)


def filters() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))


def test_each_filter_gets_the_norm_of_the_models_and_the_rest_does_not_move() -> None:
    model = filters()
    sizes = [p.numel() for p in model.parameters()]
    direction = directions(1, sum(sizes))[0].float()

    scaled = torch.split(filter_normalised(model, direction), sizes)

    parts = torch.split(direction, sizes)
    for p, new, old in zip(model.parameters(), scaled, parts, strict=True):
        if p.ndim < 2:
            assert not new.any()
            continue
        rows, before = new.view(len(p), -1), old.view(len(p), -1)
        assert torch.allclose(rows.norm(dim=1), p.detach().flatten(1).norm(dim=1), rtol=1e-5)
        cosines = nn.functional.cosine_similarity(rows, before, dim=1)
        assert torch.allclose(cosines, torch.ones(len(p)), atol=1e-6)


def test_the_given_direction_is_not_modified() -> None:
    model = filters()
    direction = directions(1, sum(p.numel() for p in model.parameters()))[0]
    before = direction.clone()

    filter_normalised(model, direction)

    assert torch.equal(before, direction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_filter_of_zeros_stays_zero(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 2).to(dtype)
    with torch.no_grad():
        model.weight.fill_(100.0)
    direction = torch.ones(8, dtype=dtype)
    direction[:3] = 0.0

    scaled = filter_normalised(model, direction)

    assert scaled.tolist() == pytest.approx([0.0] * 3 + [100.0] * 3 + [0.0] * 2)


def test_a_direction_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"has shape \(9,\); it must be \(8,\)"):
        filter_normalised(nn.Linear(3, 2), torch.ones(9))
