"""What is known of curvature without the library: closed forms, dense matrices in float64, nets to try."""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from optstudy.curvature import Operator

Batch = tuple[Any, Tensor]


@dataclass(frozen=True)
class Symmetric:
    """A symmetric matrix and its eigenpairs, by construction."""

    matrix: Tensor  # (n, n) float64
    values: Tensor  # (n,) by magnitude, signs kept
    vectors: Tensor  # (n, n) rows, in the order of `values`

    def operator(self, dtype: torch.dtype = torch.float64) -> Operator:
        """Return it as the library takes it."""
        return dense(self.matrix, dtype)


def dense(matrix: Tensor, dtype: torch.dtype = torch.float64) -> Operator:
    """Return a matrix at hand as an operator that can be had in any precision."""
    held = matrix.to(dtype)
    return Operator(
        apply=lambda rows: rows @ held,
        dim=len(matrix),
        dtype=dtype,
        device=matrix.device,
        name="matrix",
        in_dtype=lambda other: dense(matrix, other),
    )


def symmetric(spectrum: Sequence[float] | Tensor, seed: int = 0) -> Symmetric:
    """Turn a spectrum by a random rotation."""
    values = torch.as_tensor(spectrum, dtype=torch.float64)
    values = values[values.abs().argsort(descending=True, stable=True)]
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(square).Q.T.contiguous()
    matrix = vectors.T @ torch.diag(values) @ vectors
    return Symmetric((matrix + matrix.T) / 2, values, vectors)


def bulk(*top: float, dim: int = 60, width: float = 0.5) -> list[float]:
    """Some values, and others evenly spread below ``width`` in magnitude."""
    rest = torch.linspace(-width, width, dim - len(top), dtype=torch.float64)
    return [*top, *rest.tolist()]


def by_magnitude(matrix: Tensor) -> Tensor:
    """Return a symmetric matrix's eigenvalues, largest magnitude first."""
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values[values.abs().argsort(descending=True)]


def as_matrix(operator: Operator) -> Tensor:
    """Return all of an operator."""
    return operator.apply(torch.eye(operator.dim, dtype=operator.dtype)).double()


def chosen(model: nn.Module, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the parameters by name, all that are trained by default."""
    every = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return every if names is None else {name: every[name] for name in names}


def of_weights(
    model: nn.Module, function: Callable[[nn.Module], Tensor], names: Sequence[str] | None = None
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return a function of a model as one of its weights in one vector, and the weights, in float64."""
    model = copy.deepcopy(model).double()
    parameters = chosen(model, names)
    sizes = [p.numel() for p in parameters.values()]

    def at(vector: Tensor) -> Tensor:
        parts = torch.split(vector, sizes)
        given = {name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}
        named = {f"model.{name}": p for name, p in given.items()}
        found: Tensor = torch.func.functional_call(_Of(model, function), named, ())
        return found

    return at, torch.cat([p.flatten() for p in parameters.values()])


class _Of(nn.Module):
    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self) -> Any:
        return self.function(self.model)


def double(value: Any) -> Any:
    """Return tensors of numbers in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(double(item) for item in value)
    if isinstance(value, dict):
        return {key: double(item) for key, item in value.items()}
    return value


def call(model: nn.Module, inputs: Any) -> Tensor:
    """Call a model as the library does."""
    arguments, keywords = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    found: Tensor = model(*(arguments if isinstance(arguments, tuple) else (arguments,)), **keywords)
    return found


def loss_of(model: nn.Module, loss: Callable[..., Tensor], batch: Batch) -> Callable[[nn.Module], Tensor]:
    """Return a loss on one batch in float64, as a function of the model."""
    inputs, targets = double(batch[0]), double(batch[1])
    return lambda net: loss(call(net, inputs), targets)


def dense_hessian(
    model: nn.Module, loss: Callable[..., Tensor], batch: Batch, names: Sequence[str] | None = None
) -> Tensor:
    """Return the Hessian by torch.func, in float64.

    Two backward passes: forward over backward loads decompositions that torch itself warns of.
    """
    at, weights = of_weights(model, loss_of(model, loss, batch), names)
    found: Tensor = torch.func.jacrev(torch.func.grad(at))(weights)
    return found


def double_backward(model: nn.Module, loss: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Return the Hessian of a loss on one batch by two backward passes, in float64."""
    return hessian_of(model, loss_of(model, loss, batch))


def hessian_of(model: nn.Module, function: Callable[[nn.Module], Tensor]) -> Tensor:
    """Return the Hessian of any function of a model by two backward passes, in float64."""
    model = copy.deepcopy(model).double()
    parameters = [p for p in model.parameters() if p.requires_grad]
    slopes = torch.autograd.grad(function(model), parameters, create_graph=True, materialize_grads=True)
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True)
        for entry in torch.cat([slope.flatten() for slope in slopes])
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def finite_differences(
    model: nn.Module, loss: Callable[..., Tensor], batch: Batch, vector: Tensor, step: float = 1e-5
) -> Tensor:
    """Return the product of the Hessian with a vector by central differences of gradients, in float64."""
    ends = []
    for sign in (1.0, -1.0):
        moved = copy.deepcopy(model).double()
        weights = nn.utils.parameters_to_vector(moved.parameters()).detach()
        nn.utils.vector_to_parameters(weights + sign * step * vector, moved.parameters())
        slopes = torch.autograd.grad(loss_of(moved, loss, batch)(moved), list(moved.parameters()))
        ends.append(torch.cat([slope.flatten() for slope in slopes]))
    return (ends[0] - ends[1]) / (2 * step)


def dense_gradient(
    model: nn.Module, loss: Callable[..., Tensor], batch: Batch, names: Sequence[str] | None = None
) -> Tensor:
    """Return the gradient, in float64."""
    at, weights = of_weights(model, loss_of(model, loss, batch), names)
    found: Tensor = torch.func.grad(at)(weights)
    return found


def dense_gauss_newton(model: nn.Module, loss: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Return J^T (d^2 L / dz^2) J, in float64."""
    inputs, targets = double(batch[0]), double(batch[1])
    at, weights = of_weights(model, lambda net: call(net, inputs).flatten())
    jacobian: Tensor = torch.func.jacrev(at)(weights)
    shape = call(copy.deepcopy(model).double(), inputs).shape

    def of_outputs(z: Tensor) -> Tensor:
        return loss(z.view(shape), targets)

    inner: Tensor = torch.func.jacrev(torch.func.grad(of_outputs))(at(weights))
    return jacobian.T @ inner @ jacobian


def dense_fisher(model: nn.Module, loss: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Return the mean of g g^T over the examples, in float64."""
    inputs, targets = batch
    rows = [dense_gradient(model, loss, (inputs[i : i + 1], targets[i : i + 1])) for i in range(len(targets))]
    gradients = torch.stack(rows)
    return gradients.T @ gradients / len(rows)


def net(*sizes: int, seed: int = 0) -> nn.Sequential:
    """Return a net of tanh layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def examples(count: int = 13, inputs: int = 3, classes: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return inputs and classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=generator)
    return x, torch.randint(classes, (count,), generator=generator)


def chunks(batch: tuple[Tensor, Tensor], *sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Cut a batch."""
    return list(zip(*(torch.split(part, list(sizes)) for part in batch), strict=True))


class Quadratic(nn.Module):
    """Returns its own weights; with `quadratic_loss`, a loss whose Hessian is any matrix."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def forward(self, _: Tensor) -> Tensor:
        """Return the weights."""
        return self.weights


def quadratic_loss(matrix: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return w A w / 2 as a loss of the outputs."""
    return lambda w, _: w @ matrix.to(w.dtype) @ w / 2


NOTHING = (torch.zeros(1), torch.zeros(1))  # data of a model that needs none


def snapshot(model: nn.Module) -> list[Any]:
    """Return everything that an estimate must leave as it was, to be compared with `same`."""
    own = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, tensor.detach().clone(), id(tensor), tensor.requires_grad) for name, tensor in own],
        [
            (name, None if p.grad is None else p.grad.clone(), id(p.grad))
            for name, p in model.named_parameters()
        ],
        [module.training for module in model.modules()],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    ]


def same(one: Any, two: Any) -> bool:
    """Whether two snapshots agree to the bit."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def near(one: Tensor, two: Tensor) -> bool:
    """Whether two matrices agree up to float64 rounding."""
    return torch.allclose(one.double(), two.double(), rtol=1e-10, atol=1e-12)
