"""Symmetric linear operators: Hessian, Gauss-Newton, Fisher, preconditioned."""

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from optstudy.curvature.additivity import first_examples, in_slices
from optstudy.curvature.arguments import check_whole
from optstudy.curvature.batches import Data
from optstudy.curvature.build import checked_objective, mixes_examples, objective, objective_of_shard
from optstudy.curvature.containers import describe
from optstudy.curvature.cross_entropy import cross_entropy_product
from optstudy.curvature.distributed import Shards, combined
from optstudy.curvature.foreign import rows_of, scipy_matvec, scipy_operator
from optstudy.curvature.losses import Denominator, Loss, cast_loss, example_count, is_torch_loss
from optstudy.curvature.objective import Objective, check_precision, supports
from optstudy.curvature.repeatability import check_unchanged
from optstudy.curvature.reprs import short_repr
from optstudy.curvature.second_derivatives import (
    blame_second_derivative,
    check_custom_functions,
    module_without_second_derivative,
)
from optstudy.curvature.twice import (
    dense,
    explained_checkpoint,
    explained_derivative,
)

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator
    from torch.distributed import ProcessGroup

FEW_EXAMPLES, SLICES = 2, 8
Product = Callable[[Tensor], Tensor]  # (m, n) to (m, n), row by row


@dataclass(frozen=True)
class Operator:
    r"""A symmetric matrix :math:`A`, given by its products with vectors.

    All estimates of this package take an operator. For an explicit matrix ``a``, use
    ``Operator(lambda v: v @ a, len(a), a.dtype, a.device, "a")``; for a product with one vector, `from_matvec`; for a
    matrix of numpy or scipy, `from_scipy`.

    Example:
        >>> a = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
        >>> operator = Operator(lambda v: v @ a, 3, a.dtype, a.device, "diagonal")
        >>> operator @ torch.ones(3)
        tensor([3., 2., 1.])
        >>> operator
        Operator(name='diagonal', dim=3, dtype=float32, device=cpu)
    """

    apply: Product  # rows (m, n) to rows A v
    dim: int  # n
    dtype: torch.dtype
    device: torch.device
    name: str  # for messages
    in_dtype: Callable[[torch.dtype], "Operator"] | None = None  # returns the operator at another precision
    blame: Callable[[], str | None] | None = None  # says what is wrong in a model, if this is not symmetric
    # Raises ValueError if model, loss or data differ by now.
    check_unchanged: Callable[[], None] | None = None
    shards: Shards | None = None  # of an operator over the data of several processes
    # Returns that of a few examples; None if they cannot be had apart.
    of_few_examples: Callable[[], "Operator | None"] | None = None
    # Returns the same over slices of a single batch, whose graphs take little memory; None if it cannot be cut.
    in_slices: Callable[[], "Operator | None"] | None = None

    def __repr__(self) -> str:
        return short_repr(self, "name", "dim", "dtype", "device")

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return the product with one vector ``(n,)``.

        Raises:
            ValueError: If the vector has another size.
        """
        if vector.shape != (self.dim,):
            raise ValueError(
                f"the vector has shape {tuple(vector.shape)}; the {self.name} takes ({self.dim},)"
            )
        return self.apply(vector.unsqueeze(0)).squeeze(0)

    @classmethod
    def from_matvec(
        cls,
        matvec: Callable[[Tensor], Any],
        dim: int,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        name: str = "operator",
    ) -> "Operator":
        """Return an operator from the product of a symmetric matrix with one vector.

        Args:
            matvec: Maps a tensor ``(dim,)`` of this dtype and device to one like it, or to an array of numpy.
            dim: Size of the matrix.
            dtype: Precision of the products, float32 or float64. Products in float32 cannot be had in float64.
            device: Where the products are computed.
            name: For messages.

        Raises:
            ValueError: At a product, if ``matvec`` returns something else.

        Example:
            >>> scale = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
            >>> Operator.from_matvec(lambda vector: scale * vector, 3) @ torch.ones(3, dtype=torch.float64)
            tensor([3., 2., 1.], dtype=torch.float64)
        """
        if not callable(matvec):
            raise TypeError(f"matvec is {describe(matvec)}; give a function of one vector, or use from_scipy")
        check_whole(dim=dim)
        if dim < 1:
            raise ValueError(f"dim is {dim}; give at least 1")
        device = torch.device(device)
        check_precision(device, dtype)
        return cls(rows_of(matvec, dim, dtype, device, name), dim, dtype, device, name)

    @classmethod
    def from_scipy(cls, matrix: Any, *, name: str = "matrix") -> "Operator":
        """Return an operator from a symmetric matrix of numpy, or a sparse one or a ``LinearOperator`` of scipy.

        Its precision is that of the matrix, float64 for whole numbers.

        Raises:
            TypeError: If it is something else, or complex.
            ValueError: If it is not square.

        Example:
            >>> from scipy import sparse
            >>> Operator.from_scipy(sparse.diags_array([3.0, 2.0, 1.0])) @ torch.ones(3, dtype=torch.float64)
            tensor([3., 2., 1.], dtype=torch.float64)
        """
        matvec, dim, dtype = scipy_matvec(matrix)
        return cls.from_matvec(matvec, dim, dtype=dtype, name=name)

    def to_scipy(self) -> "LinearOperator":
        """Return this as a ``scipy.sparse.linalg.LinearOperator`` of the same precision, for scipy's own solvers.

        Example:
            >>> scale = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
            >>> theirs = Operator.from_matvec(lambda vector: scale * vector, 3).to_scipy()
            >>> theirs @ [1.0, 1.0, 1.0]
            array([3., 2., 1.])
        """
        return scipy_operator(self.apply, self.dim, self.dtype, self.device)


def check_operator(value: Any, function: str) -> None:
    """Check that a function that takes an operator got one.

    Raises:
        TypeError: If it got something else, such as a model.
    """
    if isinstance(value, Operator):
        return
    example = "Operator(lambda v: v @ a, len(a), a.dtype, a.device, 'a') for a matrix a"
    raise TypeError(
        f"{function} takes an operator, not {describe(value)}; give"
        f" {example if isinstance(value, Tensor) else 'hessian(model, loss, data)'}"
    )


def product(operator: Operator, rows: Tensor) -> Tensor:
    """Return products with rows ``(m, n)``, after checking what an operator of the user's own returned.

    Raises:
        ValueError: If they have another shape or precision, or were computed in place of the rows.
    """
    version = rows._version  # noqa: SLF001  # the only trace of a change in place
    images = operator.apply(rows).detach()
    if rows._version != version:  # noqa: SLF001
        raise ValueError(f"the {operator.name} changes the rows that it is given; return others")
    if images.shape != rows.shape or not images.is_floating_point():
        raise ValueError(
            f"the {operator.name} maps rows of shape {tuple(rows.shape)} to {describe(images)}; return products of the"
            " same shape, in floating point"
        )
    return images


def check_end(operator: Operator) -> None:
    """Check at the end of an estimate that its operator is still that of its beginning."""
    if operator.check_unchanged is not None:
        operator.check_unchanged()


def hessian(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    weight_decay: float = 0.0,
    denominator: Denominator | None = None,
    group: "ProcessGroup | None" = None,
) -> Operator:
    r"""Return :math:`\nabla^2 L + \lambda I` at the model's weights, by double backward passes (Pearlmutter, 1994).

    For a single batch the graph of the gradient is kept as long as the operator, so that a product costs about one
    backward pass. For several batches, `apply` visits each batch once for all rows, and memory does not grow with the
    number of batches.

    Args:
        model: Any module, already in train or eval mode as desired.
        loss: Mean loss of a batch.
        data: A batch ``(inputs, targets)``, or batches; see `objective`.
        parameters: Names or patterns; by default all that require a gradient.
        dtype: Precision; by default that of the parameters.
        weight_decay: :math:`\lambda` of a penalty :math:`\lambda \|\theta\|^2 / 2` that training added to the loss;
            0 for the Hessian of the loss alone.
        denominator: Divisor of the mean loss of a batch; see `objective`.
        group: Processes of which each gives its own shard of the data, for `on_first_process`.

    Raises:
        ValueError: As `objective` does, or if a `torch.autograd.Function` of the model or the loss has a wrong second
            derivative.
    """

    def build(function: Objective) -> Operator:
        check_custom_functions(function)
        return hessian_of(function, weight_decay)

    if group is None:
        return build(
            objective(model, loss, data, parameters=parameters, dtype=dtype, denominator=denominator)
        )
    return combined(
        lambda: objective_of_shard(model, loss, data, parameters, dtype, denominator), build, group
    )


def gauss_newton(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    denominator: Denominator | None = None,
    group: "ProcessGroup | None" = None,
) -> Operator:
    r"""Return the generalised Gauss-Newton matrix :math:`J^\top (\nabla^2_z L) J` (Schraudolph, 2002).

    :math:`J` is the Jacobian of the outputs :math:`z`, which must be one tensor. For cross-entropy on logits
    this is the Fisher matrix of the model's own distribution. Arguments and errors are those of `hessian`.
    """

    def build(function: Objective) -> Operator:
        return _operator(function, _gauss_newton_rows, "Gauss-Newton matrix")

    if group is None:
        return build(
            objective(model, loss, data, parameters=parameters, dtype=dtype, denominator=denominator)
        )
    return combined(
        lambda: objective_of_shard(model, loss, data, parameters, dtype, denominator), build, group
    )


def fisher(
    model: nn.Module,
    loss: Loss,
    data: Data,
    *,
    parameters: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    group: "ProcessGroup | None" = None,
) -> Operator:
    r"""Return the empirical Fisher matrix :math:`\frac{1}{N} \sum_i g_i g_i^\top` of the examples' gradients.

    :math:`g_i` is the gradient of the loss of example :math:`i` alone. This matrix is not a substitute for the
    Hessian (Kunstner et al., 2019). The model must process examples independently, so batch norm must be in eval mode.
    Arguments and errors are those of `hessian`.
    """

    def examples() -> Objective:
        function = checked_objective(model, loss, data, parameters, dtype, example_count)
        for name, module in function.model.named_modules():
            if mixes_examples(module):
                raise ValueError(
                    f"{name} is batch norm that uses batch statistics, so the loss of a single example is undefined;"
                    " call model.eval()"
                )
        return function

    def build(function: Objective) -> Operator:
        return _operator(function, _fisher_rows, "empirical Fisher matrix")

    return build(examples()) if group is None else combined(examples, build, group)


def preconditioned(operator: Operator, diagonal: Tensor) -> Operator:
    r"""Return :math:`P^{-1/2} A P^{-1/2}`, whose eigenvalues are those of :math:`P^{-1} A`.

    For the Hessian and an adaptive optimizer's :math:`P` (see `preconditioner`), its first eigenvalue is the
    preconditioned sharpness (Cohen et al., 2022, https://arxiv.org/abs/2207.14484).

    Args:
        operator: :math:`A`.
        diagonal: Diagonal of :math:`P`, ``(n,)``, positive.

    Raises:
        ValueError: If the diagonal has another size, or is not positive everywhere.
    """
    check_operator(operator, "preconditioned")
    if diagonal.shape != (operator.dim,):
        raise ValueError(
            f"the diagonal has shape {tuple(diagonal.shape)}; the operator takes ({operator.dim},)"
        )
    if not bool((diagonal > 0).all()):
        raise ValueError("the diagonal is not positive everywhere, so it has no inverse root")
    scale = diagonal.to(operator.device, operator.dtype).rsqrt()
    other, few, slices = operator.in_dtype, operator.of_few_examples, operator.in_slices
    return Operator(
        apply=lambda rows: operator.apply(rows * scale) * scale,
        dim=operator.dim,
        dtype=operator.dtype,
        device=operator.device,
        name=f"preconditioned {operator.name}",
        in_dtype=None if other is None else lambda dtype: preconditioned(other(dtype), diagonal),
        blame=operator.blame,
        check_unchanged=operator.check_unchanged,
        of_few_examples=None if few is None else lambda: _scaled(few(), diagonal),
        in_slices=None if slices is None else lambda: _scaled(slices(), diagonal),
    )


def _scaled(operator: Operator | None, diagonal: Tensor) -> Operator | None:
    return None if operator is None else preconditioned(operator, diagonal)


def in_double(operator: Operator) -> Operator | None:
    """Return the operator in float64; None if that is not available."""
    if operator.dtype == torch.float64:
        return operator
    return operator.in_dtype(torch.float64) if operator.in_dtype and has_double(operator) else None


def has_double(operator: Operator) -> bool:
    """Whether an operator that is not in float64 is available in float64."""
    finer = operator.dtype != torch.float64 and operator.in_dtype is not None
    return finer and supports(operator.device, torch.float64)


@dataclass(frozen=True)
class Expansion:
    """Second-order Taylor expansion of a loss: value, gradient and Hessian at one point."""

    loss: float
    gradient: Tensor  # (n,)
    hessian: Operator

    def __repr__(self) -> str:
        return short_repr(self, "loss", "gradient", "hessian")


def expand(objective: Objective, weight_decay: float = 0.0) -> Expansion:
    """Return loss, gradient and Hessian of an objective; ``weight_decay`` is added to the Hessian alone."""
    if not isinstance(objective, Objective):
        raise TypeError(
            f"expand takes an objective, not {describe(objective)}; give objective(model, loss, data)"
        )
    if objective.first_pass is not None:  # not at each step of a tracker
        check_custom_functions(objective)
    if objective.one_batch:
        value, leaves, gradient = _gradient(objective, *next(objective.batches())[:2])
        product = _hessian_product(objective, leaves, gradient)
        return Expansion(
            float(value.detach()),
            _vector(gradient).detach(),
            hessian_of(objective, weight_decay, product),
        )

    def gradient_and_loss(inputs: Any, targets: Any) -> Tensor:
        value, _, gradient = _gradient(objective, inputs, targets)
        return torch.cat([_vector(gradient).detach(), value.detach().reshape(1)])

    combined = objective.mean(gradient_and_loss)
    return Expansion(float(combined[-1]), combined[:-1], hessian_of(objective, weight_decay))


def hessian_of(objective: Objective, weight_decay: float = 0.0, product: Product | None = None) -> Operator:
    """Return the Hessian of an objective, by the products of a single batch if they are at hand."""
    if not isinstance(weight_decay, numbers.Real) or not math.isfinite(weight_decay):
        raise ValueError(f"weight_decay is {describe(weight_decay)}; give a finite number")
    name = "Hessian" if not weight_decay else f"Hessian + {weight_decay:g} I (weight decay)"
    return _operator(objective, _hessian_rows, name, weight_decay, product)


Prepare = Callable[[Objective, Any, Any], Product]


def _operator(
    objective: Objective, prepare: Prepare, name: str, shift: float = 0.0, product: Product | None = None
) -> Operator:
    if product is None and objective.one_batch:
        product = prepare(objective, *next(objective.batches())[:2])

    def over_batches(rows: Tensor) -> Tensor:
        return objective.mean(lambda inputs, targets: prepare(objective, inputs, targets)(rows))

    unshifted = product or over_batches
    return Operator(
        apply=(lambda rows: unshifted(rows).add_(rows, alpha=shift)) if shift else unshifted,
        dim=objective.dim,
        dtype=objective.dtype,
        device=objective.device,
        name=name,
        in_dtype=lambda dtype: _operator(objective.in_dtype(dtype), prepare, name, shift),
        blame=lambda: blame_second_derivative(objective),
        check_unchanged=lambda: check_unchanged(objective),
        of_few_examples=lambda: _of_part(
            lambda: first_examples(objective, FEW_EXAMPLES), prepare, name, shift
        ),
        in_slices=(lambda: _of_part(lambda: in_slices(objective, SLICES), prepare, name, shift))
        if _can_be_cut(objective)
        else None,
    )


def _can_be_cut(objective: Objective) -> bool:
    """Whether a single batch is known to have a loss and a model that take its examples one by one."""
    alone = not any(objective.modes) and not any(map(mixes_examples, objective.model.modules()))
    return objective.one_batch and is_torch_loss(objective.loss) and alone


def _of_part(cut: Callable[[], Objective], prepare: Prepare, name: str, shift: float) -> Operator | None:
    """Return the operator of a part of a batch; None if the model or the loss does not take it alone."""
    try:
        return _operator(cut(), prepare, name, shift)
    except Exception:  # noqa: BLE001  # the user's model and loss may raise anything
        return None


def _gradient(objective: Objective, inputs: Any, targets: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return a batch's loss, the leaves, and the gradient with respect to them, which can be differentiated."""
    with torch.enable_grad():
        leaves = objective.leaves()
        value = objective.value(leaves, inputs, targets)
        return value, leaves, objective.holding(leaves, lambda: _derivative(value, leaves))


def _hessian_product(objective: Objective, leaves: list[Tensor], gradient: list[Tensor]) -> Product:
    return _rowwise(objective, leaves, lambda row: _vector(_vjp(gradient, leaves, row)))


def _hessian_rows(objective: Objective, inputs: Any, targets: Any) -> Product:
    _, leaves, gradient = _gradient(objective, inputs, targets)
    return _hessian_product(objective, leaves, gradient)


def _gauss_newton_rows(objective: Objective, inputs: Any, targets: Any) -> Product:
    with torch.enable_grad():
        leaves = objective.leaves()
        outputs = _single_tensor(objective.outputs(leaves, inputs))
        output_product = _output_product(objective, outputs.detach(), targets)
        dummy = torch.zeros_like(outputs, requires_grad=True)
        # J^T u is linear in u, so its derivative in u is J.
        transposed = objective.holding(leaves, lambda: _derivative(outputs, leaves, dummy))

    def row(vector: list[Tensor]) -> Tensor:
        (tangent,) = _vjp(transposed, [dummy], vector)
        return _vector(_vjp([outputs], leaves, [output_product(tangent)]))

    return _rowwise(objective, leaves, row)


def _output_product(objective: Objective, outputs: Tensor, targets: Any) -> Callable[[Tensor], Tensor]:
    """Return the product with the Hessian of a batch's loss at the model's outputs."""
    if (known := cross_entropy_product(objective.loss, outputs, targets)) is not None:
        return known
    outputs.requires_grad_()
    with objective.computing(objective.loss):
        gradient = _derivative(objective.output_loss(outputs, targets), [outputs])

    def product(tangent: Tensor) -> Tensor:
        with objective.computing(objective.loss):
            return _vjp(gradient, [outputs], [tangent])[0]

    return product


def _fisher_rows(objective: Objective, inputs: Any, targets: Any) -> Product:
    with torch.enable_grad():
        leaves = objective.leaves()
        outputs = _single_tensor(objective.outputs(leaves, inputs))
        losses = _example_losses(objective, outputs, _single_tensor(targets, "the targets are", "target"))
        if not bool(losses.isfinite().all()):
            raise FloatingPointError(
                "the loss of an example is not finite; perhaps all of its targets are ignored"
            )
        dummy = torch.zeros_like(losses, requires_grad=True)
        transposed = objective.holding(leaves, lambda: _derivative(losses, leaves, dummy))

    def row(vector: list[Tensor]) -> Tensor:
        (weights,) = _vjp(transposed, [dummy], vector)
        return _vector(_vjp([losses], leaves, [weights / len(weights)]))

    return _rowwise(objective, leaves, row)


def _example_losses(objective: Objective, outputs: Tensor, targets: Any) -> Tensor:
    """Return the loss of each example as a batch of one."""
    loss = cast_loss(objective.loss, objective.dtype)
    with objective.computing(objective.loss):
        losses: Tensor = torch.func.vmap(lambda z, y: loss(z.unsqueeze(0), y.unsqueeze(0)))(outputs, targets)
    return losses


def _single_tensor(value: Any, subject: str = "the model returns", kind: str = "output") -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{subject} {describe(value)}; this matrix requires a single {kind} tensor")
    return value


def _rowwise(
    objective: Objective, leaves: list[Tensor], product: Callable[[list[Tensor]], Tensor]
) -> Product:
    """Return a product of each row, cut into the parameters' shapes."""

    def apply(rows: Tensor) -> Tensor:
        with explained_derivative(lambda: module_without_second_derivative(objective)):
            images = objective.holding(leaves, lambda: [product(objective.unflatten(row)) for row in rows])
            return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(images)

    return apply


def _derivative(value: Tensor, leaves: Sequence[Tensor], weights: Tensor | None = None) -> list[Tensor]:
    """Return the gradient, which can itself be differentiated; zero for a constant."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    with explained_checkpoint():
        return dense(torch.autograd.grad(value, leaves, weights, create_graph=True, materialize_grads=True))


def _vjp(values: Sequence[Tensor], leaves: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the vector-Jacobian product of ``values`` with ``weights``; zero where ``values`` are constant."""
    varying = [(value, weight) for value, weight in zip(values, weights, strict=True) if value.requires_grad]
    if not varying:
        return [torch.zeros_like(leaf) for leaf in leaves]
    outputs, cotangents = zip(*varying, strict=True)
    return dense(torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True, materialize_grads=True))


def _vector(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
