"""Models as people have them: compiled, parallel, checkpointed, sparse, recurrent, frozen, with hooks, complex."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from optstudy.curvature import (
    EigenTracker,
    Operator,
    filter_normalised,
    fisher,
    gauss_newton,
    has_preconditioner,
    hessian,
    layer_spectra,
    loss_landscape,
    preconditioner,
    top_eigenpairs,
)

X, Y = oracles.examples()
LOSS = functional.cross_entropy
TWO = oracles.chunks((X, Y), 6, 7)
EITHER = pytest.mark.parametrize("data", [(X, Y), TWO], ids=["one", "several"])
MATRICES = pytest.mark.parametrize("make", [hessian, gauss_newton, fisher])


def net() -> nn.Sequential:
    return oracles.net(3, 5, 4)


def compiled(model: nn.Module) -> nn.Module:
    found = torch.compile(model, backend="aot_eager")
    assert isinstance(found, nn.Module)
    return found


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch.compile": compiled,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "compiled DataParallel": lambda model: compiled(nn.DataParallel(model)),
}


@EITHER
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.usefixtures("process_group")
def test_a_wrapped_model_has_the_hessian_of_the_one_inside(wrap: Any, data: Any) -> None:
    model = net()
    truth = oracles.double_backward(model, LOSS, (X, Y))

    with pytest.warns(
        UserWarning, match="is measured as the (Sequential|DataParallel) that it wraps"
    ) as said:
        found = hessian(wrap(model), LOSS, data, dtype=torch.float64)

    assert len(said) == 1
    assert oracles.near(oracles.as_matrix(found), truth)


def test_parameters_of_a_wrapped_model_have_no_prefix() -> None:
    model = net()
    truth = oracles.double_backward(model, LOSS, (X, Y))[20:, 20:]
    optimizer = torch.optim.Adam(model.parameters())
    functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
    parallel = nn.DataParallel(model)

    with pytest.warns(UserWarning, match="DataParallel is measured as"):
        found = hessian(parallel, LOSS, (X, Y), parameters="2.*", dtype=torch.float64)
    optimizer.step()

    assert oracles.near(oracles.as_matrix(found), truth)
    assert has_preconditioner(optimizer, parallel, "2.*")
    assert preconditioner(optimizer, parallel, "2.*").shape == (24,)
    assert filter_normalised(parallel, torch.ones(24), "2.*").shape == (24,)


def test_layers_of_a_wrapped_model_are_those_inside() -> None:
    with pytest.warns(UserWarning, match="DataParallel is measured as") as said:
        spectra = layer_spectra(nn.DataParallel(net()), LOSS, (X, Y))

    assert list(spectra) == ["0", "2"]
    assert len(said) == 1


class PartlyCompiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = net(), nn.Linear(4, 4)
        self.compiled = compiled(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.compiled(x).tanh())  # type: ignore[no-any-return]


def compiled_in_place() -> nn.Module:
    model = net()
    model.compile(backend="aot_eager")
    return model


WEIGHTED = nn.CrossEntropyLoss(torch.tensor([4.0, 1.0, 0.5, 2.0]), ignore_index=0)
PLAIN_LOSSES: dict[str, Any] = {
    "function": LOSS,
    "lambda": lambda z, y: LOSS(z, y, label_smoothing=0.1),
    "module": WEIGHTED,
}


@EITHER
@pytest.mark.parametrize("name", PLAIN_LOSSES)
@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_a_compiled_loss_runs_as_written(make: Any, name: str, data: Any) -> None:
    loss = torch.compile(PLAIN_LOSSES[name], backend="aot_eager")

    found = oracles.as_matrix(make(net(), loss, data))

    plain = oracles.as_matrix(make(net(), PLAIN_LOSSES[name], data))
    assert torch.allclose(
        found, plain, rtol=1e-4, atol=1e-7
    )  # Gauss-Newton has a closed form of the plain one


@pytest.mark.parametrize("make", [PartlyCompiled, compiled_in_place])
def test_compiled_parts_run_as_written(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    plain = nn.Sequential(model.inner, nn.Tanh(), model.outer) if isinstance(model, PartlyCompiled) else net()
    truth = oracles.double_backward(plain, LOSS, (X, Y))

    found = hessian(model, LOSS, (X, Y), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), truth)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch.jit
@pytest.mark.parametrize(
    "make",
    [
        torch.jit.script,
        lambda model: torch.jit.trace(model, X),  # type: ignore[no-untyped-call]
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_scripted_model_is_refused(make: Any, nested: bool) -> None:
    scripted = nn.Sequential(nn.Linear(3, 3), make(net())) if nested else make(net())
    name = "1" if nested else "the model"

    with pytest.raises(
        ValueError, match=f"{name} is compiled by torch.jit, which cannot .*; give the module before"
    ):
        hessian(scripted, LOSS, (X, Y))
    with pytest.raises(ValueError, match=f"{name} is compiled by torch.jit"):
        EigenTracker(LOSS, (X, Y), range(2)).observe(Context(0, scripted), None)


class Twice(nn.Module):
    """A net that has a module under two names, and a tied weight under a third."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.two, self.three, self.last = self.one, nn.Linear(3, 3), nn.Linear(3, 4)
        self.three.weight = self.one[0].weight  # type: ignore[assignment]  # a parameter

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.three(self.two(self.one(x).tanh()).tanh()).tanh())  # type: ignore[no-any-return]


@EITHER
def test_a_module_that_is_registered_twice_is_left_as_it_was(data: Any) -> None:
    torch.manual_seed(0)
    model = Twice().eval()
    before = oracles.snapshot(model)

    found = hessian(model, LOSS, data, dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), oracles.double_backward(model, LOSS, (X, Y)))
    assert oracles.same(before, oracles.snapshot(model))


class Checkpointed(nn.Module):
    """A net whose middle is computed again in backward passes, with attention, a buffer and batch norm."""

    def __init__(self, attention: bool = True, reentrant: bool | None = False) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Buffer(torch.tensor(0.7))
        self.attention, self.reentrant = attention, reentrant

    def block(self, h: Tensor) -> Tensor:
        h = self.norm(self.middle(h * self.scale)).tanh().unflatten(0, (-1, 1, 1))
        h = h.expand(-1, 1, 2, 4) * torch.arange(1, 3, dtype=h.dtype).view(2, 1)
        if not self.attention:
            return h.mean((1, 2))
        if self.reentrant is None:  # by hand, for the truth
            return ((h @ h.mT / 2).softmax(-1) @ h).mean((1, 2))
        return functional.scaled_dot_product_attention(h, h, h).mean((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        again = self.reentrant is not None
        return self.last(checkpoint(self.block, h, use_reentrant=self.reentrant) if again else self.block(h))  # type: ignore[no-any-return]


@MATRICES
@EITHER
@pytest.mark.parametrize("attention", [False, True], ids=["plain", "attention"])
def test_activation_checkpointing_changes_no_number(attention: bool, data: Any, make: Any) -> None:
    torch.manual_seed(0)
    model = Checkpointed(attention).eval()
    plain = copy.deepcopy(model)
    plain.reentrant = None
    truth = oracles.as_matrix(make(plain, LOSS, (X, Y), dtype=torch.float64))
    before = oracles.snapshot(model)

    operator = make(model, LOSS, data, dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(operator), truth)
    assert oracles.same(before, oracles.snapshot(model))
    if make is hessian:
        assert oracles.near(truth, oracles.double_backward(plain, LOSS, (X, Y)))


@EITHER
def test_a_checkpointed_model_is_measured_at_the_weights_and_modes_at_creation(data: Any) -> None:
    torch.manual_seed(0)
    model = Checkpointed().eval()
    plain = copy.deepcopy(model)
    plain.reentrant = None
    truth = oracles.double_backward(plain, LOSS, (X, Y))
    operator = hessian(model, LOSS, data, dtype=torch.float64)

    model.train()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.add_(1)

    assert oracles.near(oracles.as_matrix(operator), truth)


def test_residuals_of_a_checkpointed_model_are_computed_in_float64() -> None:
    torch.manual_seed(0)
    model = (
        Checkpointed().train()
    )  # batch norm writes to its buffers in the forward pass, and again in backward passes
    plain = copy.deepcopy(model)
    plain.reentrant = None
    before = oracles.snapshot(model)

    pairs = top_eigenpairs(model, LOSS, (X, Y))

    assert torch.allclose(
        pairs.values, oracles.by_magnitude(oracles.double_backward(plain, LOSS, (X, Y)))[:2], rtol=1e-5
    )
    assert pairs.converged
    assert oracles.same(before, oracles.snapshot(model))


class FirstCheckpointed(nn.Module):
    """Whose checkpoint gets the data, which need no gradient: torch takes what it returns for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.first, x, use_reentrant=True).tanh())  # type: ignore[no-any-return]


def test_reentrant_checkpointing_of_the_data_is_refused() -> None:
    with pytest.raises(
        ValueError, match="use_reentrant=True, which has no second derivative; use use_reentrant=False"
    ):
        hessian(FirstCheckpointed(), LOSS, (X, Y))


@MATRICES
def test_reentrant_checkpointing_is_refused(make: Any) -> None:
    with pytest.raises(
        ValueError, match=r"use_reentrant=True, which has no second derivative; use use_reentrant=False$"
    ):
        make(Checkpointed(reentrant=True).eval(), LOSS, (X, Y))


class Words(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(7, 3, padding_idx=0, sparse=sparse), nn.Linear(3, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.layer(self.embedding(words).mean(1)).tanh()  # type: ignore[no-any-return]


@MATRICES
@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_sparse_embeddings_have_the_numbers_of_dense_ones(make: Any, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    sparse, dense = Words(sparse=True), Words(sparse=False)
    dense.load_state_dict(sparse.state_dict())
    words = torch.randint(7, (13, 2))

    def own(z: Tensor, y: Tensor) -> Tensor:  # whose gradients are asked for over batches
        return LOSS(z, y)

    found = make(sparse, own, oracles.chunks((words, Y), *sizes), dtype=torch.float64)

    assert oracles.near(
        oracles.as_matrix(found), oracles.as_matrix(make(dense, own, (words, Y), dtype=torch.float64))
    )
    if make is hessian:
        assert oracles.near(oracles.as_matrix(found), oracles.double_backward(dense, LOSS, (words, Y)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.LSTM(3, 3, batch_first=True), nn.Linear(3, 4)
        self.cudnn: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.cudnn.append(torch.backends.cudnn.enabled)
        return self.outer(self.inner(x)[0][:, -1])  # type: ignore[no-any-return]


def test_recurrent_layers_run_without_cudnn() -> None:
    """It has no second derivatives for them."""
    model = Recurrent()
    before = torch.backends.cudnn.enabled

    hessian(model, LOSS, (X.unsqueeze(1), Y))

    assert not any(model.cudnn)
    assert torch.backends.cudnn.enabled == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "data", [(X.unsqueeze(1), Y), [(x.unsqueeze(1), y) for x, y in TWO]], ids=["one", "several"]
)
def test_recurrent_layers_on_a_gpu_have_their_hessian(data: Any) -> None:
    torch.manual_seed(0)
    model = Recurrent()
    truth = oracles.double_backward(model, LOSS, (X.unsqueeze(1), Y))

    found = hessian(model.cuda(), LOSS, data, dtype=torch.float64)

    identity = torch.eye(found.dim, dtype=torch.float64, device="cuda")
    assert torch.allclose(found.apply(identity).cpu(), truth, rtol=1e-8, atol=1e-10)


@EITHER
def test_recurrent_layers_keep_their_own_weights(data: Any) -> None:
    """They hold their weights in a list, and notice themselves when the parameters are others."""
    torch.manual_seed(0)
    batches = [(x.unsqueeze(1), y) for x, y in ([data] if isinstance(data, tuple) else data)]
    model = Recurrent()

    def own(z: Tensor, y: Tensor) -> Tensor:
        return LOSS(z, y)

    def again(net: Any) -> Tensor:
        return LOSS(net(X.double().unsqueeze(1)), Y)

    expected, truth = model(X.unsqueeze(1)), oracles.hessian_of(model, again)
    for _ in range(2):
        found = hessian(model, own, batches, dtype=torch.float64, denominator=len)
        assert oracles.near(oracles.as_matrix(found), truth)
        assert torch.equal(model(X.unsqueeze(1)), expected)
        copied = copy.deepcopy(model)
        assert torch.equal(copied(X.unsqueeze(1)), expected)


class AgainRecurrent(Recurrent):
    """Whose recurrent layer is computed again in backward passes."""

    again = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.again:
            return super().forward(x)
        return checkpoint(super().forward, x, use_reentrant=False)


@EITHER
def test_recurrent_layers_are_computed_again_with_the_weights_at_creation(data: Any) -> None:
    torch.manual_seed(0)
    batches = [(x.unsqueeze(1), y) for x, y in ([data] if isinstance(data, tuple) else data)]
    model = AgainRecurrent()
    plain = copy.deepcopy(model)
    plain.again = False
    truth = oracles.hessian_of(plain, lambda net: LOSS(net(X.double().unsqueeze(1)), Y))
    operators = [hessian(model, LOSS, batches, dtype=dtype) for dtype in (torch.float32, torch.float64)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)

    single, double = (oracles.as_matrix(operator) for operator in operators)

    assert torch.allclose(single, truth, rtol=1e-4, atol=1e-6)
    assert oracles.near(double, truth)


@dataclass
class Context:
    """What a tracker looks at."""

    step: int
    model: nn.Module
    optimizer: Any = None


CHANGES: dict[str, Callable[[Any], Any]] = {
    "frozen": lambda model: model[0].requires_grad_(False),
    "unfrozen": lambda model: model[4].requires_grad_(True),
    "exchanged": lambda model: (model[2].requires_grad_(False), model[4].requires_grad_(True)),
    "replaced": lambda model: model.__setitem__(4, nn.Linear(4, 4, bias=False)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_tracker_starts_anew_where_the_parameters_change(change: Callable[[Any], Any]) -> None:
    model = oracles.net(3, 4, 4, 4)
    model[4].requires_grad_(False)
    assert model[2].weight.shape == model[4].weight.shape
    tracker = EigenTracker(LOSS, (X, Y), range(10))
    _, memory = None, tracker.observe(Context(0, model), None)[0]
    memory, tracked = tracker.observe(Context(1, model), memory)

    change(model)
    memory, seen = tracker.observe(Context(2, model), memory)
    _, after = tracker.observe(Context(3, model), memory)

    truth = oracles.by_magnitude(oracles.double_backward(model, LOSS, (X, Y)))
    assert (tracked["verified"], seen["verified"], after["verified"]) == (0.0, 1.0, 0.0)
    assert seen["angle"] != seen["angle"]  # nan: no eigenspace to compare with
    for values in (seen, after):
        assert [values["lambda_1"], values["lambda_2"]] == pytest.approx(truth[:2].tolist(), rel=1e-3)


def test_a_tracker_without_parameters_left_says_so() -> None:
    model = net()
    tracker = EigenTracker(LOSS, (X, Y), range(10))
    memory, _ = tracker.observe(Context(0, model), None)
    model.requires_grad_(False)

    with pytest.raises(ValueError, match="the model has no parameter that requires a gradient"):
        tracker.observe(Context(1, model), memory)


def test_a_tracker_mentions_a_wrapper_once() -> None:
    model = nn.DataParallel(net())
    tracker = EigenTracker(LOSS, (X, Y), range(10), verify_every=1)

    with pytest.warns(UserWarning, match="DataParallel is measured as the Sequential") as said:
        memory, first = tracker.observe(Context(0, model), None)
    _, second = tracker.observe(Context(1, model), memory)  # another warning would be an error

    assert len(said) == 1
    assert second["lambda_1"] == pytest.approx(first["lambda_1"], rel=1e-4)


class Remembers(nn.Linear):
    """Keeps its output, as people do to look at features."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.parts: list[Tensor] = []
        self.named = {"before": torch.zeros(1)}

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        self.parts.append(self.last)
        self.named["last"] = self.last
        return self.last


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(3, 4)),
    "spectral norm by hooks": lambda: nn.utils.spectral_norm(nn.Linear(3, 4)),
    "memory": Remembers,
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@EITHER
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_model_whose_forward_pass_sets_attributes_is_left_as_it_was(
    make: Any, data: Any, train: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(make(), nn.Tanh()).train(train)
    copied, names = copy.deepcopy(model), [list(vars(module)) for module in model.modules()]

    found = oracles.as_matrix(hessian(model, LOSS, data, dtype=torch.float64))
    loss_landscape(model, LOSS, data, torch.ones(1, len(found)), [[0.0, 0.5]])

    assert [list(vars(module)) for module in model.modules()] == names
    if isinstance(model[0], Remembers):
        assert (model[0].parts, list(model[0].named)) == ([], ["before"])
    again = copy.deepcopy(model)
    for one, other in zip(again.state_dict().items(), copied.state_dict().items(), strict=True):
        assert oracles.same(list(one), list(other))
    assert oracles.near(found, oracles.double_backward(copied, LOSS, (X, Y)))


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
def test_hooks_leave_the_weights_that_they_computed_before() -> None:
    """Also where the loss is evaluated without gradients, at other weights."""
    spectral, pruned = nn.utils.spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 4)
    prune.random_unstructured(pruned, "weight", amount=0.3)  # type: ignore[no-untyped-call]
    model = nn.Sequential(spectral, nn.Tanh(), pruned)
    before = [(spectral.weight, spectral.weight.clone()), (pruned.weight, pruned.weight.clone())]

    loss_landscape(model, LOSS, (X, Y), torch.ones(1, 28), [[0.5, 1.0]])

    assert all(torch.equal(weight, copied) for weight, copied in before)
    assert spectral.weight is before[0][0]
    assert pruned.weight is before[1][0]


class Wave(nn.Module):
    """A net with a complex parameter, a complex buffer and a real layer."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.shift = nn.Buffer(torch.randn(3, dtype=torch.complex64))
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer((x * self.phase + self.shift).abs())  # type: ignore[no-any-return]


def test_a_complex_parameter_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"phase is complex \(torch.complex64\), and a Hessian is of real parameters; hold its real and imaginary"
        r" parts \(torch.view_as_real\), or select others by parameters=",
    ):
        hessian(Wave(), LOSS, (X, Y))


@pytest.mark.parametrize("frozen", [False, True])
def test_complex_tensors_beside_real_parameters_are_computed_with(frozen: bool) -> None:
    torch.manual_seed(0)
    model = Wave()
    model.phase.requires_grad_(not frozen)
    features = (
        X.double() * model.phase.detach().to(torch.complex128) + model.shift.to(torch.complex128)
    ).abs()

    found: Operator = hessian(
        model, LOSS, (X, Y), parameters=None if frozen else "layer.*", dtype=torch.float64
    )

    truth = oracles.hessian_of(model.layer, lambda layer: LOSS(layer(features), Y))
    assert oracles.near(oracles.as_matrix(found), truth)


def test_parameters_that_are_not_initialised_are_named() -> None:
    with pytest.raises(ValueError, match=r"weight is not initialised; call the model once"):
        hessian(nn.LazyLinear(4), LOSS, (X, Y))


class Bags(nn.Module):
    """A mean of embeddings by the layer that torch has for it, or as the message recommends."""

    def __init__(self, bag: bool) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 3) if bag else nn.Embedding(5, 3)
        self.head = nn.Linear(3, 4)

    def forward(self, words: Tensor) -> Tensor:
        found = self.bag(words)
        return self.head((found if found.ndim == 2 else found.mean(1)).tanh())  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [hessian, gauss_newton])
def test_a_layer_without_a_second_derivative_is_named(make: Any) -> None:
    words = torch.arange(52).reshape(13, 4) % 5
    message = (
        r"^module 'bag' \(EmbeddingBag\) has no second derivative in torch \(.*_embedding_bag_backward.*\);"
        " use nn.Embedding and the sum or mean of its outputs$"
    )

    for data in ((words, Y), oracles.chunks((words, Y), 6, 7)):
        with pytest.raises(ValueError, match=message):
            make(Bags(bag=True), LOSS, data).apply(torch.ones(1, 31))

    model = Bags(bag=False)
    if make is hessian:
        truth = oracles.double_backward(model, LOSS, (words, Y))
        assert torch.allclose(oracles.as_matrix(make(model, LOSS, (words, Y))), truth, rtol=1e-4, atol=1e-6)
