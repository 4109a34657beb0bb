"""AdaHessian against an independent implementation, closed forms, and the promises of its docstring."""

import copy
import gc
import io
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_optimizer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from optstudy.optimizers import AdaHessian

Closure = Callable[[], Tensor]


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 5))
    return nn.Sequential(*layers).double()


def batch(size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 1, 8, 8, dtype=torch.float64, generator=generator)
    return images, torch.randint(5, (size,), generator=generator)


def loss_of(net: nn.Module, images: Tensor, labels: Tensor) -> Closure:
    return lambda: functional.cross_entropy(net(images), labels)


def quadratic(matrix: Tensor, theta: Tensor) -> Closure:
    return lambda: 0.5 * theta @ matrix @ theta


def parameter(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_equals_torch_optimizer_step_by_step(power: float) -> None:
    ours, theirs = convnet(), convnet()
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.6, 0.8), "weight_decay": 1e-2, "hessian_power": power}
    mine = AdaHessian(ours.parameters(), **options, seed=7)
    reference = torch_optimizer.Adahessian(
        theirs.parameters(), **options, seed=7
    )  # seeds the global generator
    images, labels = batch()

    for _ in range(10):
        mine.step(loss_of(ours, images, labels))
        weights = list(theirs.parameters())
        gradients = torch.autograd.grad(loss_of(theirs, images, labels)(), weights, create_graph=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()  # it detaches in place, which views refuse
        reference.step()

        for a, b in zip(ours.parameters(), weights, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_one_step_equals_the_one_computed_by_hand() -> None:
    # loss = 3 a^2 + b^2 / 2 has gradient (6a, b) and Hessian diag(6, 1), so |Hz| = (6, 1) whatever the signs.
    theta = parameter([2.0, -4.0])
    optimizer = AdaHessian([theta], lr=0.1, betas=(0.5, 0.25), eps=0.01, weight_decay=0.2, hessian_power=0.5)

    loss = optimizer.step(quadratic(torch.diag(torch.tensor([6.0, 1.0]).double()), theta))

    assert loss.item() == 20.0
    assert not loss.requires_grad
    # After one step the corrected averages are gradient and squared curvature themselves.
    first = 2.0 - 0.1 * (12.0 / (math.sqrt(6.0) + 0.01) + 0.2 * 2.0)
    second = -4.0 - 0.1 * (-4.0 / (1.0 + 0.01) + 0.2 * -4.0)
    assert theta.tolist() == pytest.approx([first, second], rel=1e-14)


def test_root_of_average_curvature_converges_to_the_row_norms_of_the_hessian() -> None:
    # E[(Hz)_i^2] = sum_j H_ij^2 for independent signs; 4,000 steps leave a standard error of about 1 %.
    root = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = root @ root.T
    theta = parameter([1.0] * 6)
    optimizer = AdaHessian([theta], lr=0.0, betas=(0.9, 0.99975))

    for _ in range(4000):
        optimizer.step(quadratic(matrix, theta))

    state = optimizer.state[theta]
    estimate = (state["exp_curvature_sq"] / (1 - 0.99975**4000)).sqrt()
    torch.testing.assert_close(estimate, matrix.norm(dim=1), rtol=0.05, atol=0.0)


class Saved:
    """A tensor that a graph keeps for its backward pass; dies with the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_memory_stays_flat_over_2000_steps_without_the_garbage_collector() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = AdaHessian(net.parameters())
    closure = loss_of(net, torch.ones(2, 3), torch.tensor([0, 1]))
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Saved:
        alive.add(saved := Saved(tensor))
        return saved

    optimizer.step(closure)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
            for _ in range(2000):
                optimizer.step(closure)
        after = len(gc.get_objects())
    finally:
        gc.enable()

    assert not alive  # every graph is gone, those that Python's collector cannot see included
    assert after - before < 100  # one object kept at each step would make 2,000
    assert gc.collect() < 100


def test_state_through_a_file_continues_to_the_bit() -> None:
    images, labels = batch()
    net = convnet()
    optimizer = AdaHessian(net.parameters(), weight_decay=1e-3, seed=3)
    for _ in range(3):
        optimizer.step(loss_of(net, images, labels))
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = convnet()
    other.load_state_dict(saved["net"])
    resumed = AdaHessian(other.parameters(), seed=99)
    resumed.load_state_dict(saved["optimizer"])

    for _ in range(3):
        optimizer.step(loss_of(net, images, labels))
        resumed.step(loss_of(other, images, labels))

    assert all(a.equal(b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_state_before_the_first_step_carries_the_signs() -> None:
    saved = AdaHessian([parameter([1.0])], seed=5).state_dict()
    resumed = AdaHessian([parameter([1.0])], seed=6)

    resumed.load_state_dict(saved)

    assert resumed.state_dict()["generators"]["cpu"].equal(saved["generators"]["cpu"])


def test_a_deep_copy_takes_the_same_next_step() -> None:
    images, labels = batch()
    net = convnet()
    optimizer = AdaHessian(net.parameters(), seed=3)
    optimizer.step(loss_of(net, images, labels))
    other_net, other = copy.deepcopy((net, optimizer))

    optimizer.step(loss_of(net, images, labels))
    other.step(loss_of(other_net, images, labels))

    assert all(a.equal(b) for a, b in zip(net.parameters(), other_net.parameters(), strict=True))


def test_another_optimizers_state_is_refused() -> None:
    theta = parameter([1.0])
    optimizer = AdaHessian([theta])

    with pytest.raises(ValueError, match="not a state of AdaHessian"):
        optimizer.load_state_dict(torch.optim.SGD([theta]).state_dict())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_curvature_of_a_kernel_is_averaged_over_its_spatial_axes(axes: int) -> None:
    # With loss = sum(c w^2) / 2 the Hessian is diag(c), so |Hz| = c and each kernel's mean of c is exact.
    weights = {1: nn.Conv1d(2, 3, 4), 2: nn.Conv2d(2, 3, 4), 3: nn.Conv3d(2, 3, 4)}
    kernel = weights[axes].double().weight
    c = torch.rand(kernel.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    start = kernel.detach().clone()
    optimizer = AdaHessian([kernel], lr=0.5, eps=0.0)

    optimizer.step(lambda: (c * kernel**2).sum() / 2)

    mean = c.flatten(2).mean(dim=2).reshape(3, 2, *[1] * axes)
    torch.testing.assert_close(kernel.detach(), start - 0.5 * c * start / mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_it_trains_convolutions_of_any_dimension(conv: type[nn.Conv1d | nn.Conv2d | nn.Conv3d]) -> None:
    torch.manual_seed(0)
    axes = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[conv]
    net = nn.Sequential(conv(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    images, labels = torch.rand(4, 1, *[5] * axes), torch.tensor([0, 1, 0, 1])
    closure = loss_of(net, images, labels)
    before = closure().item()
    optimizer = AdaHessian(net.parameters(), lr=0.05)

    for _ in range(20):
        optimizer.step(closure)

    assert closure().item() < before


def test_a_parameter_with_zero_curvature_steps_by_its_gradient_over_eps() -> None:
    curved, straight = parameter([2.0]), parameter([1.0])
    optimizer = AdaHessian([curved, straight], lr=0.1, eps=0.5)

    optimizer.step(lambda: torch.sum(curved**2 + 3 * straight))

    assert curved.item() == pytest.approx(2.0 - 0.1 * 4.0 / 2.5)
    assert straight.item() == pytest.approx(1.0 - 0.1 * 3.0 / 0.5)


def test_a_loss_without_any_curvature_is_no_error() -> None:
    theta = parameter([1.0])

    AdaHessian([theta], lr=0.1, eps=0.5).step(lambda: 3 * theta.sum())

    assert theta.item() == pytest.approx(1.0 - 0.1 * 3.0 / 0.5)


def test_unused_and_frozen_parameters_are_not_updated() -> None:
    used, unused = parameter([1.0]), parameter([1.0])
    frozen = parameter([1.0]).requires_grad_(False)
    optimizer = AdaHessian([unused, used, frozen], weight_decay=0.5)

    optimizer.step(lambda: torch.sum((used * frozen) ** 2))

    assert used.item() != 1.0
    assert (unused.item(), frozen.item()) == (1.0, 1.0)
    assert set(optimizer.state) == {used}


def test_a_step_with_all_parameters_frozen_returns_the_loss() -> None:
    frozen = parameter([1.0]).requires_grad_(False)

    loss = AdaHessian([frozen]).step(lambda: torch.sum(frozen**2))

    assert loss.item() == 1.0


def test_each_group_follows_its_own_options() -> None:
    fast, still = parameter([1.0]), parameter([1.0])
    groups: list[dict[str, Any]] = [{"params": [fast]}, {"params": [still], "lr": 0.0}]
    optimizer = AdaHessian(groups, lr=0.5, eps=0.0)

    optimizer.step(lambda: torch.sum(fast**2 + still**2))

    assert fast.item() == pytest.approx(0.5)  # half of a Newton step
    assert still.item() == 1.0


def test_gradients_and_the_global_generator_are_not_changed() -> None:
    theta, other = parameter([1.0, 2.0]), parameter([3.0])
    theta.grad = torch.tensor([7.0, 8.0], dtype=torch.float64)
    held = theta.grad
    before = torch.get_rng_state()

    AdaHessian([theta, other]).step(lambda: (theta**2).sum() * other.sum())

    assert torch.get_rng_state().equal(before)
    assert theta.grad is held
    assert held.tolist() == [7.0, 8.0]
    assert other.grad is None


def test_a_step_inside_no_grad_still_differentiates() -> None:
    theta = parameter([1.0])

    with torch.no_grad():
        AdaHessian([theta], lr=0.5, eps=0.0).step(lambda: torch.sum(theta**2))

    assert theta.item() == pytest.approx(0.5)


def test_signs_are_independent_and_even() -> None:
    matrix = torch.ones(50, 50, dtype=torch.float64)
    theta = parameter([1.0] * 50)
    optimizer = AdaHessian([theta], lr=0.0, betas=(0.0, 0.0))
    squares = []

    for _ in range(400):
        optimizer.step(quadratic(matrix, theta))
        squares.append(optimizer.state[theta]["exp_curvature_sq"][0].item())

    # (sum of 50 signs)^2 has mean 50 and deviation 70: 3.5 over 400 draws. Equal signs would give 2,500.
    assert sum(squares) / len(squares) == pytest.approx(50.0, abs=14.0)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": -1e-4},
        {"weight_decay": -1.0},
        {"hessian_power": 1.5},
        {"seed": -1},
    ],
    ids=str,
)
def test_an_option_outside_its_domain_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        AdaHessian([parameter([1.0])], **options)


def test_a_group_with_an_option_outside_its_domain_is_an_error() -> None:
    with pytest.raises(ValueError, match="lr is -1"):
        AdaHessian([{"params": [parameter([1.0])], "lr": -1.0}])


class Words(nn.Module):
    """Words, attention or none, and a middle that may be computed again in backward passes."""

    def __init__(self, sparse: bool = False, attention: bool = False, again: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layer = nn.Embedding(7, 4, sparse=sparse), nn.Linear(4, 3)
        self.attention, self.again = attention, again

    def block(self, h: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(h, h, h) if self.attention else h.tanh()

    def forward(self, words: Tensor) -> Tensor:
        h = self.embedding(words).unsqueeze(1)
        h = checkpoint(self.block, h, use_reentrant=False) if self.again else self.block(h)
        return self.layer(h.squeeze(1).mean(1))  # type: ignore[no-any-return]


def by_hand(model: Words, words: Tensor) -> Tensor:
    """Return the outputs with attention as it is defined."""
    h = model.embedding(words)
    return model.layer(((h @ h.mT / 2).softmax(-1) @ h).mean(1))  # type: ignore[no-any-return]


WORDS, CLASSES = (torch.randint(7, (9, 5), generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)


def trained(model: Words, forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return the weights after three steps."""
    optimizer = AdaHessian(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.step(lambda: functional.cross_entropy(forward(WORDS), CLASSES))
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("again", [False, True], ids=["once", "checkpointed"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_what_has_no_second_derivative_by_default_takes_the_same_steps(
    sparse: bool, again: bool, attention: bool
) -> None:
    plain, model = Words().double(), Words(sparse, attention, again).double()

    found = trained(model, model)

    expected = trained(plain, (lambda words: by_hand(plain, words)) if attention else plain)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_compiled_code_runs_as_written() -> None:
    plain, model = Words().double(), Words().double()

    found = trained(model, torch.compile(model, backend="aot_eager"))

    assert all(torch.equal(a, b) for a, b in zip(found, trained(plain, plain), strict=True))


def test_a_complex_parameter_is_an_error_and_adds_no_group() -> None:
    real, wave = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3, dtype=torch.complex64))
    optimizer = AdaHessian([real])

    with pytest.raises(
        ValueError,
        match=r"parameter 1 of the group is complex \(torch.complex64, shape \(3,\)\); .*view_as_real",
    ):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2)), wave]})

    assert len(optimizer.param_groups) == 1


def test_reentrant_checkpointing_is_an_error() -> None:
    layer = nn.Linear(3, 1)

    def closure() -> Tensor:
        return checkpoint(lambda h: h.tanh(), layer(torch.ones(2, 3)), use_reentrant=True).sum()  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="use_reentrant=True, which has no second derivative"):
        AdaHessian(layer.parameters()).step(closure)


def test_an_operation_without_a_second_derivative_is_explained() -> None:
    model = nn.EmbeddingBag(5, 3)
    optimizer = AdaHessian(model.parameters())

    with pytest.raises(
        ValueError, match=r"has no second derivative in torch \(.*\); use nn.Embedding and the sum or mean"
    ):
        optimizer.step(lambda: model(torch.arange(6).reshape(2, 3) % 5).square().sum())
