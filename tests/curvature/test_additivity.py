"""Losses of several batches: combined as one batch of all the data, or refused until a denominator is given."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import EigenTracker, hessian, objective, top_eigenpairs
from optstudy.curvature.additivity import prove_denominator
from optstudy.curvature.build import unchecked_objective
from optstudy.curvature.losses import is_torch_loss

CLASSES, PAD = 4, 0
WEIGHT = torch.tensor([4.0, 1.0, 0.5, 2.0])


class Words(nn.Module):
    """A net of sequences, ``(n, t)`` to ``(n, t, classes)``."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(7, 3), nn.Linear(3, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.words(words).tanh())  # type: ignore[no-any-return]


class Scored(nn.Module):
    """A net that returns its own mean loss over the tokens that are not padding, as many language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Words()

    def forward(self, words: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": over_tokens(self.net(words), labels)}


def over_tokens(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z.reshape(-1, CLASSES), y.reshape(-1), ignore_index=PAD)


def tokens(y: Tensor) -> Tensor:
    return (y != PAD).sum()


def of_classes(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, WEIGHT.to(z.dtype))


def class_weight(y: Tensor) -> float:
    return float(WEIGHT[y].sum())


def not_ignored(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, ignore_index=PAD)


def by_labels(z: Tensor, y: Tensor) -> Tensor:
    return (functional.cross_entropy(z, y, reduction="none") * y).sum() / y.sum()


def summed(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, reduction="sum")


def mean(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y, label_smoothing=0.1)


class SummedCrossEntropy(nn.CrossEntropyLoss):
    """A subclass whose forward pass sums."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002  # torch's names
        return functional.cross_entropy(input, target, reduction="sum")


class SummedWeighted(nn.modules.loss._WeightedLoss):
    """The same of another base."""

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return summed(z, y)


class Plain(nn.CrossEntropyLoss):
    """A subclass that overrides nothing."""


def sequences(lengths: list[int], width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return words and labels, labels after a sequence's length being padding."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(7, (len(lengths), width), generator=generator)
    labels = torch.randint(1, CLASSES, (len(lengths), width), generator=generator)
    return words, labels.masked_fill(torch.arange(width) >= torch.tensor(lengths).unsqueeze(1), PAD)


X, Y = oracles.examples(count=24)
SORTED = X, Y.sort().values  # the first batches are of one class
POSITIVE = X, Y.sort(descending=True).values  # the first batches have no ignored target
EVEN = sequences([5] * 6 + [2] * 6)  # halves of each batch have equally many tokens
LATE = sequences([5] * 8 + [5, 1, 4, 2])  # only the last batch has padding


def vectors() -> nn.Module:
    return oracles.net(3, 4, CLASSES)


# A model, a loss, all of its data, the sizes of batches, and the denominator of its mean (None for a sum).
NEITHER: dict[str, tuple[Callable[[], nn.Module], Any, Any, tuple[int, ...], Any]] = {
    "tokens, equal within each batch": (Words, over_tokens, EVEN, (6, 6), tokens),
    "tokens, ignored in the last batch alone": (Words, over_tokens, LATE, (4, 4, 4), tokens),
    "tokens, batches of one": (Words, over_tokens, EVEN, (1,) * 12, tokens),
    "the model's own loss": (
        Scored,
        lambda found, _: found["loss"],
        ({"words": EVEN[0], "labels": EVEN[1]}, EVEN[1]),
        (6, 6),
        tokens,
    ),
    "class weights, sorted": (vectors, of_classes, SORTED, (5, 5, 5, 5, 4), class_weight),
    "class weights, one class in each": (vectors, of_classes, SORTED, (4,) * 6, class_weight),
    "class weights, batches of one": (vectors, of_classes, (X, Y), (1,) * 24, class_weight),
    "ignored targets, none in the first": (vectors, not_ignored, POSITIVE, (8, 8, 8), tokens),
    "the sum of labels": (vectors, by_labels, POSITIVE, (7, 7, 10), lambda y: float(y.sum())),
    "a subclass with class weights": (vectors, Plain(WEIGHT), SORTED, (8, 8, 8), class_weight),
}
EITHER: dict[str, tuple[Callable[[], nn.Module], Any, Any, tuple[int, ...], Any]] = {
    "a mean": (vectors, mean, (X, Y), (8, 8, 8), len),
    "a mean, batches of several sizes": (vectors, mean, SORTED, (1, 9, 2, 12), len),
    "a mean, batches of one": (vectors, mean, (X, Y), (1,) * 24, len),
    "a mean in a subclass": (vectors, Plain(), SORTED, (8, 8, 8), len),
    "a sum": (vectors, summed, (X, Y), (8, 9, 7), None),
    "a sum, batches of one": (vectors, summed, (X, Y), (1,) * 24, None),
    "a sum in a subclass": (vectors, SummedCrossEntropy(), (X, Y), (8, 8, 8), None),
    "a sum in a subclass, batches of one": (vectors, SummedWeighted(), (X, Y), (1,) * 24, None),
}


def batches(batch: Any, sizes: tuple[int, ...]) -> list[Any]:
    """Cut a batch, whose inputs may be a dict."""
    inputs, targets = batch
    if not isinstance(inputs, dict):
        return oracles.chunks(batch, *sizes)
    parts = {name: torch.split(value, list(sizes)) for name, value in inputs.items()}
    cut = [{name: part[i] for name, part in parts.items()} for i in range(len(sizes))]
    return list(zip(cut, torch.split(targets, list(sizes)), strict=True))


def declared(loss: Any, denominator: Any) -> Any:
    """Return a loss with its denominator as an attribute."""
    if isinstance(loss, nn.Module):
        module = copy.deepcopy(loss)
        module.denominator = denominator
        return module

    def found(z: Any, y: Tensor) -> Any:
        return loss(z, y)

    found.denominator = denominator  # type: ignore[attr-defined]
    return found


def truth_of(model: nn.Module, loss: Any, data: Any) -> Tensor:
    """Return the Hessian on all of the data as one batch, in float64."""
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).double()
    if isinstance(loss, functools.partial):
        loss = functools.partial(loss.func, **oracles.double(loss.keywords))
    return oracles.double_backward(model, loss, data)


@pytest.mark.parametrize(("make", "loss", "data", "sizes", "_"), NEITHER.values(), ids=NEITHER.keys())
def test_a_loss_that_is_neither_mean_nor_sum_over_examples_is_refused(
    make: Any, loss: Any, data: Any, sizes: Any, _: Any
) -> None:
    with pytest.raises(ValueError, match="neither the mean nor the sum .* give a denominator"):
        objective(make(), loss, batches(data, sizes))


@pytest.mark.parametrize(("make", "loss", "data", "sizes", "denominator"), NEITHER.values(), ids=NEITHER)
def test_a_denominator_makes_batches_one(
    make: Any, loss: Any, data: Any, sizes: Any, denominator: Any
) -> None:
    torch.manual_seed(0)
    model = make()
    truth = truth_of(model, loss, data)

    given = hessian(model, loss, batches(data, sizes), dtype=torch.float64, denominator=denominator)
    attribute = hessian(model, declared(loss, denominator), batches(data, sizes), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(given), truth)
    assert oracles.near(oracles.as_matrix(attribute), truth)


@pytest.mark.parametrize(("make", "loss", "data", "sizes", "denominator"), EITHER.values(), ids=EITHER)
@pytest.mark.parametrize("how", ["inferred", "declared"])
def test_means_and_sums_over_examples_are_those_of_all_the_data(
    make: Any, loss: Any, data: Any, sizes: Any, denominator: Any, how: str
) -> None:
    model = make()
    truth = truth_of(model, loss, data)
    stated = declared(loss, denominator) if how == "declared" else loss
    vector = torch.randn(len(truth), dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    found = hessian(model, stated, batches(data, sizes), dtype=torch.float64)
    unchecked = unchecked_objective(model, stated, batches(data, sizes), parameters=None, dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), truth)
    assert torch.allclose(
        found @ vector, oracles.finite_differences(model, loss, data, vector), rtol=1e-5, atol=1e-7
    )
    assert (unchecked.denominator is None) == (denominator is None)


WRONG: dict[str, tuple[Any, Any, str]] = {
    "examples for tokens": (not_ignored, len, "the denominator does not fit the loss"),
    "examples for a sum": (summed, len, "the denominator does not fit the loss"),
    "one for a sum": (summed, lambda _: 1.0, "the denominator does not fit the loss"),
    "one for a mean": (mean, lambda _: 1.0, "the denominator does not fit the loss"),
    "examples for torch's own class weights": (
        nn.CrossEntropyLoss(WEIGHT),
        len,
        "the denominator does not fit the loss",
    ),
}


@pytest.mark.parametrize(("loss", "denominator", "message"), WRONG.values(), ids=WRONG)
def test_a_denominator_that_does_not_fit_the_loss_is_an_error(
    loss: Any, denominator: Any, message: str
) -> None:
    data = batches(POSITIVE, (8, 8, 8))
    for stated, given in ((loss, denominator), (declared(loss, denominator), None)):
        with pytest.raises(ValueError, match=message):
            hessian(vectors(), stated, data, denominator=given)


def test_a_mean_declared_a_sum_is_an_error() -> None:
    with pytest.raises(ValueError, match="has denominator = None, but is not a sum"):
        hessian(vectors(), declared(mean, None), batches((X, Y), (12, 12)))


@pytest.mark.parametrize("denominator", [3, "len"])
def test_a_denominator_that_is_no_function_is_an_error(denominator: Any) -> None:
    with pytest.raises(ValueError, match=f"the loss has denominator = {denominator!r}; give a function"):
        hessian(vectors(), declared(mean, denominator), batches((X, Y), (12, 12)))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_denominator_that_is_negative_or_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(
        ValueError, match=r"the denominator of a batch is .*; it must be finite, and not negative"
    ):
        hessian(vectors(), mean, batches((X, Y), (12, 12)), denominator=lambda _: value)


@pytest.mark.parametrize(
    ("value", "found"), [(torch.ones(12), "a float32 tensor of shape \\(12,\\)"), (None, "None")]
)
def test_a_denominator_that_is_not_one_number_is_an_error(value: Any, found: str) -> None:
    with pytest.raises(ValueError, match=f"the denominator of a batch is {found}; it must be one number"):
        hessian(vectors(), mean, batches((X, Y), (12, 12)), denominator=lambda _: value)


def test_the_argument_takes_precedence_over_the_attribute() -> None:
    data = batches(POSITIVE, (8, 8, 8))
    stated = declared(not_ignored, len)

    found = hessian(vectors(), stated, data, dtype=torch.float64, denominator=tokens)

    assert oracles.near(oracles.as_matrix(found), truth_of(vectors(), not_ignored, POSITIVE))


def test_a_module_and_a_partial_may_declare_a_denominator() -> None:
    class Stated(nn.Module):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return not_ignored(z, y)

        def denominator(self, y: Tensor) -> Tensor:
            return tokens(y)

    truth = truth_of(vectors(), not_ignored, POSITIVE)
    for loss in (Stated(), functools.partial(declared(not_ignored, tokens))):
        found = hessian(vectors(), loss, batches(POSITIVE, (8, 8, 8)), dtype=torch.float64)

        assert oracles.near(oracles.as_matrix(found), truth)


def test_batches_that_cannot_be_joined_need_a_denominator() -> None:
    """Padded to their own lengths; a mean over examples would be the same loss at other weights of batches."""
    torch.manual_seed(0)
    model = Words()
    wide, narrow = sequences([5] * 4), sequences([3] * 4, width=3, seed=1)
    each = [truth_of(model, over_tokens, batch) for batch in (wide, narrow)]

    with pytest.raises(
        ValueError, match=r"on parts of batches 1 and 2 \(tensors of shapes \(2, 5\) and \(2, 3\)"
    ):
        hessian(model, over_tokens, [wide, narrow])
    found = hessian(model, over_tokens, [wide, narrow], dtype=torch.float64, denominator=tokens)

    assert oracles.near(oracles.as_matrix(found), (20 * each[0] + 12 * each[1]) / 32)


def test_a_model_of_one_batch_size_needs_a_denominator() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.view(8, 3))  # type: ignore[no-any-return]

    model, data = Fixed(), batches((X, Y), (8, 8, 8))

    with pytest.raises(ValueError, match=r"on parts of batch 1 \(shape '\[8, 3\]' is invalid"):
        hessian(model, mean, data)
    found = hessian(model, mean, data, dtype=torch.float64, denominator=len)

    assert oracles.near(oracles.as_matrix(found), truth_of(nn.Sequential(model.layer), mean, (X, Y)))


def test_a_loss_that_mixes_examples_is_refused() -> None:
    def contrastive(z: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(z @ z.T, torch.arange(len(y)))

    with pytest.raises(ValueError, match="neither the mean nor the sum"):
        hessian(vectors(), contrastive, batches((X, Y), (12, 12)))


def test_equal_losses_of_all_examples_do_not_hide_their_weights() -> None:
    """A head of zeros gives every example the same loss, whatever the weights of classes."""
    model = vectors()
    for p in list(model.parameters())[-2:]:
        nn.init.zeros_(p)

    with pytest.raises(ValueError, match="neither the mean nor the sum"):
        hessian(model, of_classes, batches(SORTED, (8, 8, 8)))


def test_a_sum_of_zeros_is_a_sum() -> None:
    """Squares at their minimum: loss and gradient say nothing, and the Hessian is not zero."""
    model = nn.Linear(3, 1, bias=False)
    x = torch.randint(-3, 3, (12, 3)).float()
    nn.init.ones_(model.weight)
    targets = x.sum(1, keepdim=True)

    found = hessian(
        model, lambda z, y: (z - y).square().sum(), batches((x, targets), (4, 8)), dtype=torch.float64
    )

    assert oracles.near(oracles.as_matrix(found), 2 * x.T @ x)


def test_a_batch_of_ignored_targets_alone_counts_nothing() -> None:
    targets = torch.cat([torch.zeros(8, dtype=torch.int64), Y[8:]])

    found = hessian(
        vectors(), not_ignored, batches((X, targets), (8, 8, 8)), dtype=torch.float64, denominator=tokens
    )

    assert oracles.near(oracles.as_matrix(found), truth_of(vectors(), not_ignored, (X, targets)))


def test_tensors_that_serve_all_examples_are_not_cut() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, CLASSES)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.layer(x * mask)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, mask = Masked(), torch.tensor([1.0, 0.0, 2.0])
    data = [((x, mask), y) for x, y in batches((X, Y), (8, 9, 7))]

    found = hessian(model, mean, data, dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), truth_of(model, mean, ((X, mask), Y)))


TORCH: dict[str, Any] = {
    "function": functional.cross_entropy,
    "partial": functools.partial(functional.cross_entropy, weight=WEIGHT, ignore_index=1),
    "module": nn.CrossEntropyLoss(WEIGHT, ignore_index=1),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "log-likelihoods": nn.NLLLoss(WEIGHT),
    "margins": nn.MultiLabelSoftMarginLoss(),
    "squares": nn.MSELoss(),
}


@pytest.mark.parametrize("loss", TORCH.values(), ids=TORCH)
def test_losses_of_torch_are_those_of_all_the_data_without_a_question(loss: Any) -> None:
    squares = isinstance(loss, nn.MSELoss | nn.MultiLabelSoftMarginLoss)
    data = (X, functional.one_hot(Y, CLASSES).float()) if squares else SORTED

    found = hessian(vectors(), loss, batches(data, (1, 8, 15)), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), truth_of(vectors(), loss, data))
    assert is_torch_loss(loss)


KNOWN: dict[str, tuple[Any, Any]] = {
    "all options": (nn.CrossEntropyLoss(WEIGHT, ignore_index=1, label_smoothing=0.2), SORTED[1]),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2, ignore_index=2), SORTED[1]),
    "probabilities": (nn.CrossEntropyLoss(WEIGHT), functional.one_hot(SORTED[1], CLASSES) * 0.8 + 0.05),
    "likelihoods": (functools.partial(functional.nll_loss, weight=WEIGHT, ignore_index=3), SORTED[1]),
    **{
        type(loss).__name__: (loss, functional.one_hot(SORTED[1], CLASSES).float())
        for loss in (
            nn.MSELoss(),
            nn.L1Loss(),
            nn.SmoothL1Loss(beta=0.5),
            nn.HuberLoss(delta=0.5),
            nn.BCEWithLogitsLoss(WEIGHT, pos_weight=WEIGHT),
            nn.SoftMarginLoss(),
            nn.MultiLabelSoftMarginLoss(WEIGHT),
            nn.HingeEmbeddingLoss(),
            nn.PoissonNLLLoss(),
            nn.KLDivLoss(),
            nn.KLDivLoss(reduction="batchmean"),
        )
    },
}


@pytest.mark.parametrize(("loss", "targets"), KNOWN.values(), ids=KNOWN)
def test_the_denominators_of_torchs_losses_answer_the_same_questions(loss: Any, targets: Any) -> None:
    at = objective(vectors(), loss, batches((X, targets), (1, 8, 3, 12)), dtype=torch.float64)

    assert is_torch_loss(loss)
    assert prove_denominator(at, [at.denominator]).denominator is at.denominator
    with pytest.raises(ValueError, match="the denominator does not fit"):
        prove_denominator(at, [lambda y: float(len(y)) ** 2])


CUSTOM: dict[str, Any] = {
    "a subclass": Plain(),
    "a subclass of a sum": SummedCrossEntropy(),
    "a lambda": mean,
    "a partial of a lambda": functools.partial(mean),
    "weighted squares": functools.partial(functional.mse_loss, weight=torch.ones(3)),  # type: ignore[call-arg]
    "the old reduction": functools.partial(functional.cross_entropy, size_average=False),
}


@pytest.mark.parametrize("loss", CUSTOM.values(), ids=CUSTOM)
def test_only_losses_of_torch_itself_are_trusted(loss: Any) -> None:
    assert not is_torch_loss(loss)


def test_a_tracker_takes_a_denominator() -> None:
    model = vectors()
    truth = oracles.by_magnitude(truth_of(model, not_ignored, POSITIVE))[:2]
    data = batches(POSITIVE, (8, 8, 8))

    class Now:
        step, optimizer = 0, torch.optim.SGD(model.parameters(), lr=0.1)

    Now.model = model  # type: ignore[attr-defined]
    tracker = EigenTracker(not_ignored, data, range(1), denominator=tokens)
    _, values = tracker.observe(Now(), None)  # type: ignore[arg-type]
    pairs = top_eigenpairs(model, declared(not_ignored, tokens), data)

    assert [values["lambda_1"], values["lambda_2"]] == pytest.approx(truth.tolist(), rel=1e-3)
    assert pairs.values.tolist() == pytest.approx(truth.tolist(), rel=1e-4)


def test_a_loss_of_torch_that_was_changed_on_the_instance_is_not_trusted() -> None:
    shadowed, hooked = nn.CrossEntropyLoss(), nn.CrossEntropyLoss()
    shadowed.forward = summed  # type: ignore[method-assign,assignment]
    hooked.register_forward_hook(lambda _, given, __: summed(*given))
    batches = oracles.chunks(SORTED, 8, 16)
    truth = oracles.dense_hessian(vectors(), summed, SORTED)

    for loss in (shadowed, hooked):
        assert not is_torch_loss(loss)
        assert torch.allclose(oracles.as_matrix(hessian(vectors(), loss, batches)), truth, rtol=1e-4)


def test_hooks_of_every_module_count_as_changes() -> None:
    handle = nn.modules.module.register_module_forward_pre_hook(lambda *_: None)
    try:
        assert not is_torch_loss(nn.MSELoss())
    finally:
        handle.remove()
    assert is_torch_loss(nn.MSELoss())
