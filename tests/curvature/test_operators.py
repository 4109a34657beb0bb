"""Hessian, Gauss-Newton, Fisher and preconditioned against dense matrices in float64."""

import functools
import gc
import re
import resource
import weakref
from collections.abc import Callable

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import Operator, expand, fisher, gauss_newton, hessian, objective, preconditioned


def probabilities(count: int = 13, classes: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, classes, generator=generator).softmax(1)


def ignored(count: int = 13) -> Tensor:
    targets = oracles.examples(count)[1]
    return targets.where(torch.tensor([i % 5 not in (0, 1) for i in range(count)]), -100)


WEIGHT = torch.tensor([1.0, 3.0, 0.5, 0.1], dtype=torch.float64)
X, Y = oracles.examples()
REAL = torch.randn(13, 4, generator=torch.Generator().manual_seed(3))

# Loss of the library's user, and targets.
LOSSES: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "function": (functional.cross_entropy, Y),
    "module": (nn.CrossEntropyLoss(), Y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), Y),
    "partial sum": (functools.partial(functional.cross_entropy, reduction="sum"), Y),
    "weights of classes": (nn.CrossEntropyLoss(WEIGHT), Y),
    "partial weights": (functools.partial(functional.cross_entropy, weight=WEIGHT), Y),
    "ignored": (functional.cross_entropy, ignored()),
    "ignored by another number": (nn.CrossEntropyLoss(ignore_index=2), Y),
    "weights and ignored": (nn.CrossEntropyLoss(WEIGHT, ignore_index=2), Y),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), Y),
    "smoothed, weights, ignored": (nn.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.1), Y),
    "probabilities": (nn.CrossEntropyLoss(), probabilities()),
    "probabilities and weights": (nn.CrossEntropyLoss(WEIGHT), probabilities()),
    "likelihood": (lambda z, y: functional.nll_loss(z.log_softmax(1), y), Y),
    "square": (nn.MSELoss(), REAL),
    "square, sum": (nn.MSELoss(reduction="sum"), REAL),
    "square, function": (functional.mse_loss, REAL),
    "binary": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), (REAL > 0).double()),
    "huber": (functools.partial(functional.huber_loss, delta=0.3), REAL),
}
EVERY_LOSS = pytest.mark.parametrize(("loss", "targets"), LOSSES.values(), ids=LOSSES.keys())


@EVERY_LOSS
def test_hessian_is_the_dense_one(loss: Callable[..., Tensor], targets: Tensor) -> None:
    model = oracles.net(3, 5, 4)

    found = oracles.as_matrix(hessian(model, loss, (X, targets), dtype=torch.float64))

    assert oracles.near(found, oracles.dense_hessian(model, loss, (X, targets)))


@EVERY_LOSS
def test_batches_of_uneven_sizes_give_the_hessian_of_one(
    loss: Callable[..., Tensor], targets: Tensor
) -> None:
    model = oracles.net(3, 5, 4)
    data = oracles.chunks((X, targets), 2, 6, 1, 4)

    found = oracles.as_matrix(hessian(model, loss, data, dtype=torch.float64))

    assert oracles.near(found, oracles.dense_hessian(model, loss, (X, targets)))


@EVERY_LOSS
@pytest.mark.parametrize("sizes", [(13,), (2, 6, 1, 4)], ids=["one", "several"])
def test_gauss_newton_is_the_dense_one(
    loss: Callable[..., Tensor], targets: Tensor, sizes: tuple[int, ...]
) -> None:
    model = oracles.net(3, 5, 4)
    data = oracles.chunks((X, targets), *sizes)

    found = oracles.as_matrix(gauss_newton(model, loss, data, dtype=torch.float64))

    assert oracles.near(found, oracles.dense_gauss_newton(model, loss, (X, targets)))


FISHERS = pytest.mark.parametrize(
    "name",
    ["function", "module", "weights of classes", "smoothed", "square", "probabilities", "sum", "binary"],
)


@FISHERS
@pytest.mark.parametrize("sizes", [(13,), (2, 6, 1, 4)], ids=["one", "several"])
def test_fisher_is_the_dense_one(name: str, sizes: tuple[int, ...]) -> None:
    model, (loss, targets) = oracles.net(3, 5, 4), LOSSES[name]
    data = oracles.chunks((X, targets), *sizes)

    found = oracles.as_matrix(fisher(model, loss, data, dtype=torch.float64))

    assert oracles.near(found, oracles.dense_fisher(model, loss, (X, targets)))


def test_fisher_refuses_an_example_whose_targets_are_all_ignored() -> None:
    with pytest.raises(FloatingPointError, match="loss of an example is not finite"):
        fisher(oracles.net(3, 5, 4), functional.cross_entropy, (X, ignored()))


def test_a_batch_whose_targets_are_all_ignored_has_weight_zero() -> None:
    model, targets = oracles.net(3, 5, 4), Y.clone()
    targets[:4] = -100
    truth = oracles.dense_hessian(model, functional.cross_entropy, (X, targets))
    for sizes in ((4, 9), (2, 2, 9), (1, 3, 5, 4)):
        data = oracles.chunks((X, targets), *sizes)

        at = objective(model, functional.cross_entropy, data, dtype=torch.float64)
        here = expand(at)

        assert oracles.near(oracles.as_matrix(here.hessian), truth)
        whole = functional.cross_entropy(model(X).detach(), targets)
        assert here.loss == pytest.approx(float(whole), rel=1e-6)


def test_gauss_newton_of_a_model_linear_in_its_weights_is_its_hessian() -> None:
    model = nn.Linear(3, 4)
    whole = hessian(model, functional.cross_entropy, (X, Y), dtype=torch.float64)

    part = gauss_newton(model, functional.cross_entropy, (X, Y), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(whole), oracles.as_matrix(part))


def test_finite_differences_of_the_gradient_agree() -> None:
    """A central difference is off by h^2 |f'''| / 6, some 1e-10 here, and by rounding over h, some 1e-11."""
    model = oracles.net(3, 5, 4).double()
    operator = hessian(model, functional.cross_entropy, (X.double(), Y))
    direction = torch.randn(operator.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = []
    for sign in (1, -1):
        moved = oracles.net(3, 5, 4).double()
        vector = nn.utils.parameters_to_vector(moved.parameters()).detach()
        nn.utils.vector_to_parameters(vector + sign * 1e-5 * direction, moved.parameters())
        gradients.append(oracles.dense_gradient(moved, functional.cross_entropy, (X, Y)))

    assert torch.allclose(operator @ direction, (gradients[0] - gradients[1]) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", [hessian, gauss_newton, fisher])
@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_every_operator_is_symmetric_and_linear(
    make: Callable[..., Operator], sizes: tuple[int, ...]
) -> None:
    operator = make(
        oracles.net(3, 5, 4), functional.cross_entropy, oracles.chunks((X, Y), *sizes), dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, operator.dim, generator=generator, dtype=torch.float64)

    assert float(u @ (operator @ v)) == pytest.approx(float(v @ (operator @ u)), rel=1e-10)
    assert oracles.near(operator @ (2 * u - 3 * v), 2 * (operator @ u) - 3 * (operator @ v))
    together = operator.apply(torch.stack([u, v]))
    assert torch.equal(together[0], operator @ u)  # rows do not see one another


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of what it imports
def test_curvlinops_agrees() -> None:
    from curvlinops import HessianLinearOperator

    model, loss = oracles.net(3, 5, 4).double(), nn.CrossEntropyLoss()
    data = oracles.chunks((X.double(), Y), 6, 7)
    weights = [p for p in model.parameters() if p.requires_grad]
    theirs = HessianLinearOperator(model, loss, weights, data)
    v = torch.randn(44, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    ours = hessian(model, loss, data)

    assert oracles.near(ours @ v, theirs @ v)


def test_preconditioned_scales_both_sides_and_has_the_eigenvalues_of_p_inverse_a() -> None:
    a = oracles.symmetric(oracles.bulk(3.0, -2.0, dim=12))
    p = torch.rand(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1

    operator = preconditioned(a.operator(), p)

    assert oracles.near(oracles.as_matrix(operator), a.matrix / (p.sqrt().unsqueeze(1) * p.sqrt()))
    theirs = torch.linalg.eigvals(a.matrix / p.unsqueeze(1)).real.sort().values
    assert torch.allclose(torch.linalg.eigvalsh(oracles.as_matrix(operator)), theirs, atol=1e-10)
    assert operator.in_dtype is not None
    assert operator.in_dtype(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("diagonal", "message"),
    [
        (torch.ones(3), r"(3,); the operator takes (12,)"),
        (torch.zeros(12), "not positive"),
        (-torch.ones(12), "not positive"),
        (torch.full((12,), torch.nan), "not positive"),
    ],
)
def test_a_diagonal_of_another_size_or_sign_is_an_error(diagonal: Tensor, message: str) -> None:
    a = oracles.symmetric(oracles.bulk(3.0, dim=12))

    with pytest.raises(ValueError, match=re.escape(message)):
        preconditioned(a.operator(), diagonal)


def test_weight_decay_shifts_the_spectrum_and_is_in_the_name() -> None:
    model = oracles.net(3, 5, 4)
    plain = hessian(model, functional.cross_entropy, (X, Y), dtype=torch.float64)

    decayed = hessian(model, functional.cross_entropy, (X, Y), dtype=torch.float64, weight_decay=0.25)

    assert oracles.near(oracles.as_matrix(decayed), oracles.as_matrix(plain) + 0.25 * torch.eye(44))
    assert plain.name == "Hessian"
    assert decayed.name == "Hessian + 0.25 I (weight decay)"
    assert decayed.in_dtype is not None
    single = decayed.in_dtype(torch.float32)
    assert single.name == decayed.name
    assert torch.allclose(oracles.as_matrix(single), oracles.as_matrix(decayed), atol=1e-6)


def test_expansion_is_loss_gradient_and_hessian() -> None:
    model = oracles.net(3, 5, 4)
    for data in ((X, Y), oracles.chunks((X, Y), 6, 7)):
        here = expand(objective(model, functional.cross_entropy, data, dtype=torch.float64), weight_decay=0.5)

        value = functional.cross_entropy(oracles.net(3, 5, 4).double()(X.double()), Y).detach()
        assert here.loss == pytest.approx(float(value), rel=1e-12)
        assert oracles.near(here.gradient, oracles.dense_gradient(model, functional.cross_entropy, (X, Y)))
        truth = oracles.dense_hessian(model, functional.cross_entropy, (X, Y)) + 0.5 * torch.eye(44)
        assert oracles.near(oracles.as_matrix(here.hessian), truth)


def test_a_model_linear_in_its_weights_with_a_square_loss_has_the_same_hessian_everywhere() -> None:
    x, y = X.double(), REAL[:, :1].double()
    truth = 2 * x.T @ x / len(x)
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Linear(3, 1, bias=False).double()

        assert oracles.near(oracles.as_matrix(hessian(model, nn.MSELoss(), (x, y))), truth)


def test_a_loss_that_is_linear_in_the_weights_has_no_hessian() -> None:
    operator = hessian(nn.Linear(3, 4), lambda z, _: z.mean(), (X, Y))

    assert not oracles.as_matrix(operator).any()
    assert not oracles.as_matrix(gauss_newton(nn.Linear(3, 4), lambda z, _: z.mean(), (X, Y))).any()


@pytest.mark.parametrize("make", [hessian, gauss_newton, fisher])
def test_memory_does_not_grow_with_the_number_of_products(make: Callable[..., Operator]) -> None:
    model = oracles.net(3, 5, 4)
    one = make(model, functional.cross_entropy, (X, Y))
    several = make(model, functional.cross_entropy, oracles.chunks((X, Y), 6, 7))
    rows = torch.ones(1, one.dim)

    def tensors() -> int:
        return sum(issubclass(type(found), Tensor) for found in gc.get_objects())

    def spend(times: int) -> None:
        for _ in range(times):
            one.apply(rows)
            several.apply(rows)

    spend(3)
    before = tensors()
    spend(100)
    assert tensors() <= before


def test_a_deleted_operator_frees_its_graph() -> None:
    """Without the garbage collector's help: a graph in a cycle would pile up."""
    model = oracles.net(3, 5, 4)
    gc.collect()
    gc.disable()
    try:
        operator = hessian(model, functional.cross_entropy, (X, Y))
        operator @ torch.ones(operator.dim)
        held = weakref.ref(operator.apply)
        del operator
        assert held() is None
    finally:
        gc.enable()


def test_memory_stays_flat_over_five_hundred_operators_and_products() -> None:
    model, batch = oracles.net(30, 60, 4), oracles.examples(300, inputs=30)
    v = torch.ones(sum(p.numel() for p in model.parameters()))

    def once() -> None:
        hessian(model, functional.cross_entropy, batch) @ v

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

    for _ in range(50):
        once()
    before = peak()
    for _ in range(500):
        once()
    # Each graph holds about 300 kB; one in ten kept would show as 15 MB.
    assert peak() - before < 8_000
