"""Arguments in each other's place, and targets that a loss of torch does not take: one line that names them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from optstudy.curvature import (
    EigenTracker,
    check_symmetry,
    expand,
    filter_normalised,
    has_preconditioner,
    hessian,
    layer_spectra,
    loss_landscape,
    preconditioned,
    preconditioner,
    spectral_density,
    stability,
    top_eigenpairs,
    trace,
)

X, Y = oracles.examples()
LOSS = functional.cross_entropy
MODEL = oracles.net(3, 5, 4)


class OwnLoss(nn.Module):
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return LOSS(z, y)


# Any: the point is what has another type.
CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a loss for a model": (
        lambda h: h(LOSS, MODEL, (X, Y)),
        "model is the function cross_entropy; give a torch.nn.Module",
    ),
    "a loss module for a model": (
        lambda h: h(nn.CrossEntropyLoss(), MODEL, (X, Y)),
        "model is a CrossEntropyLoss; give",
    ),
    "an own loss for a model": (
        lambda h: h(OwnLoss(), MODEL, (X, Y)),
        "model is an OwnLoss; give a torch.nn.Module",
    ),
    "data for a loss": (lambda h: h(MODEL, (X, Y), LOSS), "loss is a tuple of 2 ("),
    "a loss by name": (
        lambda h: h(MODEL, "mse_loss", (X, Y)),
        "loss is the string 'mse_loss'; give a function of outputs and targets, such as torch.nn.functional.mse_loss",
    ),
    "a loss by an unknown name": (
        lambda h: h(MODEL, "ce", (X, Y)),
        "such as torch.nn.functional.cross_entropy",
    ),
    "the class of a loss": (
        lambda h: h(MODEL, nn.CrossEntropyLoss, (X, Y)),
        "loss is the class CrossEntropyLoss; give an instance, such as CrossEntropyLoss()",
    ),
    "a model for data": (
        lambda h: h(MODEL, LOSS, MODEL),
        "data is a Sequential; give a batch (inputs, targets)",
    ),
    "a function for data": (
        lambda h: h(MODEL, LOSS, LOSS),
        "data is the function cross_entropy; give a batch",
    ),
    "a path for data": (lambda h: h(MODEL, LOSS, "data.pt"), "data is the string 'data.pt'; give a batch"),
    "nothing for data": (lambda h: h(MODEL, LOSS, None), "data is None; give a batch"),
    "a data set": (
        lambda h: h(MODEL, LOSS, TensorDataset(X, Y)),
        "data is a TensorDataset, a data set of single examples; give batches: DataLoader(data, batch_size=100)",
    ),
    "a number for a pattern": (
        lambda h: h(MODEL, LOSS, (X, Y), parameters=[0]),
        "parameters holds 0; give names or patterns such as 'layer3.*'",
    ),
    "a parameter for a pattern": (
        lambda h: h(MODEL, LOSS, (X, Y), parameters=[MODEL[2].weight]),
        "parameters holds the parameter 2.weight itself; give names",
    ),
    "parameters for patterns": (
        lambda h: h(MODEL, LOSS, (X, Y), parameters=MODEL[2].parameters()),
        "parameters holds the parameter 2.weight itself; give names",
    ),
    "a layer for a pattern": (
        lambda h: h(MODEL, LOSS, (X, Y), parameters=MODEL[2]),
        "parameters is a Linear; give names",
    ),
    "a number for a denominator": (
        lambda h: h(MODEL, LOSS, (X, Y), denominator=20),
        "denominator is 20; give a function that maps the targets of a batch to the divisor of its mean loss",
    ),
    "zero for a denominator": (lambda h: h(MODEL, LOSS, (X, Y), denominator=0), "denominator is 0; give a"),
    "a string for a denominator": (
        lambda h: h(MODEL, OwnLoss(), [(X, Y), (X, Y)], denominator="mean"),
        "denominator is the string 'mean'; give a function",
    ),
    "a denominator that fails": (
        lambda h: h(MODEL, OwnLoss(), [(X, Y), (X, Y)], denominator=lambda y: y.lengths),
        "the denominator cannot be computed (AttributeError: 'Tensor' object has no attribute 'lengths'); the targets",
    ),
    "a weight decay that is no number": (
        lambda h: h(MODEL, LOSS, (X, Y), weight_decay=float("nan")),
        "weight_decay is nan; give a finite number",
    ),
    "an infinite weight decay": (
        lambda h: h(MODEL, LOSS, (X, Y), weight_decay=float("inf")),
        "weight_decay is inf; give a finite number",
    ),
    "a number for patterns": (lambda h: h(MODEL, LOSS, (X, Y), parameters=3), "parameters is 3; give names"),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS.keys())
def test_an_argument_in_anothers_place_is_named(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call(hessian)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


TAKE_AN_OPERATOR: dict[str, Callable[[Any], Any]] = {
    "trace": trace,
    "spectral_density": spectral_density,
    "check_symmetry": check_symmetry,
    "preconditioned": lambda it: preconditioned(it, torch.ones(44)),
    "top_eigenpairs": top_eigenpairs,
}


@pytest.mark.parametrize("name", TAKE_AN_OPERATOR)
def test_a_matrix_is_no_operator_yet(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"{name} takes an operator, not a float32 tensor .*Operator\(lambda v"
    ):
        TAKE_AN_OPERATOR[name](torch.eye(3))


@pytest.mark.parametrize("name", [name for name in TAKE_AN_OPERATOR if name != "top_eigenpairs"])
def test_a_model_is_no_operator(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"{name} takes an operator, not a Sequential; give hessian\(model, loss"
    ):
        TAKE_AN_OPERATOR[name](MODEL)


@pytest.mark.parametrize("function", [preconditioner, has_preconditioner])
def test_an_optimizer_comes_before_its_model(function: Any) -> None:
    optimizer = torch.optim.Adam(MODEL.parameters())

    with pytest.raises(
        TypeError, match="optimizer is a Sequential and model is an Adam; give a torch.optim.Optim"
    ):
        function(MODEL, optimizer)


def test_other_arguments_of_another_kind_are_named() -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "loss is a tuple of 2": lambda _: EigenTracker((X, Y), LOSS, range(3)),  # type: ignore[arg-type]
        "steps is 3; give a range": lambda it: EigenTracker(LOSS, (X, Y), it),
        "parameters is 3; give names": lambda it: EigenTracker(LOSS, (X, Y), range(3), parameters=it),
        "expand takes an objective, not 3": expand,
        "optimizer is 3; give a torch.optim.Optimizer": stability,
        "model is 3 and direction is a float32 tensor": lambda it: filter_normalised(it, X[0]),
        "directions is 3; give a tensor": lambda it: loss_landscape(MODEL, LOSS, (X, Y), it, [[0.0]]),
    }
    for message, call in calls.items():
        with pytest.raises(TypeError, match=message):
            call(3)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (Y + 1, r"\(Target 4 is out of bounds.\); .* and the targets are an int64 tensor of shape \(13,\)$"),
        (
            Y.float(),
            r"\(expected target dtype .*\); the outputs are a float32 tensor of shape \(13, 4\), and the",
        ),
    ],
)
def test_targets_that_a_users_loss_does_not_take_are_described(targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^the loss cannot be computed {message}"):
        hessian(MODEL, lambda z, y: LOSS(z, y), (X, targets))  # noqa: PLW0108  # a loss that is not torch's


IDENTITY = oracles.dense(torch.eye(9))
WHOLE: dict[str, Callable[[Any], Any]] = {
    "k": lambda it: top_eigenpairs(IDENTITY, k=it),
    "max_products": lambda it: top_eigenpairs(IDENTITY, max_products=it),
    "seed": lambda it: top_eigenpairs(IDENTITY, seed=it),
    "products": lambda it: trace(IDENTITY, it),
    "probes": lambda it: spectral_density(IDENTITY, probes=it),
    "steps": lambda it: spectral_density(IDENTITY, steps=it),
    "verify_every": lambda it: EigenTracker(LOSS, (X, Y), range(3), verify_every=it),
    "extra_pairs": lambda it: EigenTracker(LOSS, (X, Y), range(3), extra_pairs=it),
}


@pytest.mark.parametrize(("name", "call"), WHOLE.items(), ids=WHOLE)
def test_a_count_is_a_whole_number(name: str, call: Callable[[Any], Any]) -> None:
    for value, found in ((2.5, "2.5"), (True, "True"), ("a", "the string 'a'"), (None, "None")):
        with pytest.raises(TypeError, match=f"^{name} is {found}; give a whole number$"):
            call(value)


def test_counts_of_numpy_are_whole_numbers() -> None:
    one: Any = np.int64(1)

    assert top_eigenpairs(IDENTITY, k=one, seed=one).values.tolist() == pytest.approx([1.0])


def test_an_unknown_argument_is_named_with_the_function_that_was_called() -> None:
    known = "further ones are those of hessian: parameters, dtype, weight_decay, denominator"

    with pytest.raises(TypeError, match=f"^top_eigenpairs has no argument 'kk'; {known}"):
        top_eigenpairs(MODEL, LOSS, (X, Y), kk=3)
    with pytest.raises(TypeError, match="^layer_spectra has no argument 'typo'; further"):
        layer_spectra(MODEL, LOSS, (X, Y), typo=3)


def test_spectra_of_layers_take_a_model() -> None:
    given: tuple[Any, ...] = MODEL, hessian(MODEL, LOSS, (X, Y))
    for alone in given:
        with pytest.raises(TypeError, match="^layer_spectra takes a model, its loss and data, and"):
            layer_spectra(alone)


@pytest.mark.parametrize("distance", [float("nan"), float("inf")])
def test_distances_are_finite(distance: float) -> None:
    with pytest.raises(ValueError, match="distances has a number that is not finite"):
        loss_landscape(MODEL, LOSS, (X, Y), torch.ones(1, 44), [[0.0, distance]])


class Output(NamedTuple):
    loss: Tensor
    logits: Tensor


class Returns(nn.Module):
    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(3, 4), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.layer(x))


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "tuple": (lambda z: (z, None), "a tuple of 2 (a float32 tensor of shape (13, 4), None)"),
    "named tuple": (lambda z: Output(z.sum(), z), "an Output of 2 (loss, logits)"),
    "dict": (lambda z: {"logits": z}, "a dict with the keys logits"),
    "object": (lambda z: functools.partial(int, z), "a partial"),
}


@pytest.mark.parametrize(
    "loss", [LOSS, nn.CrossEntropyLoss(), functools.partial(LOSS, label_smoothing=0.1), nn.KLDivLoss()]
)
@pytest.mark.parametrize(("form", "found"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_torchs_own_losses_take_a_tensor(form: Callable[[Tensor], Any], found: str, loss: Any) -> None:
    with pytest.raises(TypeError) as caught:
        hessian(Returns(form), loss, (X, Y))

    assert f"the model returns {found}, and " in str(caught.value)
    assert "takes a tensor; give a loss of your own that selects one" in str(caught.value)


def test_targets_of_several_parts_need_a_loss_of_their_own() -> None:
    with pytest.raises(
        TypeError, match="the targets are a dict with the keys a, b, and cross_entropy takes a tensor"
    ):
        hessian(MODEL, LOSS, [(X, {"a": Y, "b": Y})])


BINARY = functional.binary_cross_entropy_with_logits
MISMATCHED: dict[str, tuple[Any, Any, str]] = {
    "numbers for labels": (
        LOSS,
        Y.float(),
        "the targets are a float32 tensor of shape (13,), and cross_entropy takes classes as an int64 tensor",
    ),
    "short integers": (
        LOSS,
        Y.int(),
        "the targets are an int32 tensor of shape (13,), and cross_entropy takes classes",
    ),
    "a column of labels": (
        nn.CrossEntropyLoss(),
        Y.unsqueeze(1),
        "an int64 tensor of shape (13, 1), and CrossEntropyLoss takes",
    ),
    "labels in one-hot integers": (
        LOSS,
        functional.one_hot(Y),
        "an int64 tensor of shape (13, 4), and cross_entropy takes",
    ),
    "too few labels": (
        LOSS,
        Y[:7],
        "an int64 tensor of shape (7,), and cross_entropy takes classes as an int64 tensor of shape (13,)",
    ),
    "probabilities of other classes": (
        LOSS,
        torch.ones(13, 3),
        "a float32 tensor of shape (13, 3), and cross_entropy takes",
    ),
    "labels from one": (
        LOSS,
        Y + 1,
        "the targets range from 1 to 4, and the model returns 4 classes; cross_entropy takes labels from 0 to 3",
    ),
    "labels beyond the weights": (
        nn.CrossEntropyLoss(torch.ones(3)),
        Y,
        "the targets range from 0 to 3, and the loss has weights of 3 classes",
    ),
    "a label below zero": (functools.partial(LOSS, ignore_index=-7), Y - 1, "the targets range from -1 to 2"),
    "a vector for a column": (
        functional.mse_loss,
        Y.float(),
        "the outputs have shape (13, 4) and the targets (13,), and mse_loss compares",
    ),
    "classes for a binary loss": (
        BINARY,
        functional.one_hot(Y),
        "the targets are torch.int64, and binary_cross_entropy_with_logits takes numbers",
    ),
}


@pytest.mark.parametrize(("loss", "targets", "message"), MISMATCHED.values(), ids=MISMATCHED.keys())
def test_targets_that_do_not_match_the_outputs_are_named(loss: Any, targets: Tensor, message: str) -> None:
    for data in ((X, targets), [(X, targets), (X, targets)]):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
            hessian(MODEL, loss, data)

        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_label_out_of_range_in_a_later_batch_is_named() -> None:
    with pytest.raises(ValueError, match="the targets range from 1 to 4, and the model returns 4 classes"):
        hessian(MODEL, LOSS, [(X, Y), (X, Y + 1)])


@pytest.mark.parametrize("ignored", [-100, 255])
def test_ignored_labels_need_not_be_classes(ignored: int) -> None:
    targets = Y.where(torch.arange(13) % 2 == 0, ignored)
    loss = functools.partial(LOSS, ignore_index=ignored)

    assert hessian(MODEL, loss, (X, targets)).dim == 44
