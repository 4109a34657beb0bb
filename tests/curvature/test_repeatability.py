"""Data, models and losses that differ between passes have no Hessian, and are refused by name."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from optstudy.curvature import (
    hessian,
    loss_landscape,
    objective,
    preconditioned,
    spectral_density,
    top_eigenpairs,
    trace,
)
from optstudy.curvature.repeatability import digest

X, Y = oracles.examples()
ONE, SEVERAL = (X, Y), oracles.chunks((X, Y), 6, 7)
CROSS_ENTROPY = functional.cross_entropy


class Layer(nn.Module):
    """A layer without parameters that applies a function, and has an attribute for its state."""

    def __init__(self, function: Callable[["Layer", Tensor], Tensor], state: Any = None) -> None:
        super().__init__()
        self.function, self.state = function, state

    def forward(self, z: Tensor) -> Tensor:
        return self.function(self, z)


def counting(layer: Layer, z: Tensor) -> Tensor:
    layer.state += 1
    return z * float(layer.state)


def growing(layer: Layer, z: Tensor) -> Tensor:
    layer.state = [*layer.state, z.detach().mean()]
    return z - torch.stack(layer.state).sum()


def remembering(layer: Layer, z: Tensor) -> Tensor:
    """Add what the last call had."""
    before = torch.zeros(1) if layer.state is None else layer.state
    layer.state = z.detach().mean()
    return z + before


def skipping(layer: Layer, z: Tensor) -> Tensor:
    """Skip a layer now and then, which may well not happen twice."""
    skipped: bool = layer.state.random() < 1e-9
    return z if skipped else z.tanh()


def in_place(_: Layer, z: Tensor) -> Tensor:
    return z.mul_(2) if not z.requires_grad else z * 2


OF_NUMPY, OF_TORCH = np.random.default_rng(0), torch.Generator().manual_seed(0)
DRAWS: dict[str, Any] = {
    "python": lambda: Layer(lambda _, z: z + random.random()),  # noqa: S311  # the global generator
    "numpy": lambda: Layer(lambda _, z: z + float(np.random.rand())),  # noqa: NPY002  # the global generator
    "torch": lambda: Layer(lambda _, z: z + torch.rand(())),
    "its own of python": lambda: Layer(skipping, random.Random(0)),  # noqa: S311
    "its own of numpy": lambda: Layer(skipping, np.random.default_rng(0)),
}
CHANGES: dict[str, Any] = {
    "a counter": lambda: Layer(counting, 0),
    "a growing buffer": lambda: Layer(growing, []),
    "a memory of the last call": lambda: Layer(remembering),
    "a hidden generator": lambda: Layer(lambda _, z: z + OF_NUMPY.random()),
}


def with_layer(layer: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Sequential(nn.Tanh(), layer), nn.Linear(5, 4)).eval()


@pytest.mark.parametrize("data", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("make", DRAWS.values(), ids=DRAWS)
def test_a_module_that_draws_random_numbers_is_named(make: Any, data: Any) -> None:
    model = with_layer(make())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002

    with pytest.raises(ValueError, match=r"draws random numbers, .* alone: module '1.1' \(Layer\) does"):
        hessian(model, CROSS_ENTROPY, data)

    assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
        (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.eye(2).to_sparse(), torch.ones(2, 2).to_sparse()),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2j]).conj()),
        (torch.tensor([True, False]), torch.tensor([False, True])),
    ],
)
def test_a_digest_tells_all_tensors_apart(one: Tensor, other: Tensor) -> None:
    assert digest([one]) == digest([one.clone()])
    assert digest([one]) != digest([other])


def test_a_generator_of_the_system_is_found_by_what_it_changes() -> None:
    layer = Layer(lambda layer, z: z + layer.state.random(), random.SystemRandom())

    with pytest.raises(ValueError, match=r"module '1.1' \(Layer\) returns other outputs"):
        hessian(with_layer(layer), CROSS_ENTROPY, ONE)


class Recurrent(nn.Module):
    """Continues from its last hidden state, which matters less from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(1, 5, batch_first=True)
        self.hidden: Tensor | None = None

    def forward(self, z: Tensor) -> Tensor:
        known = self.hidden is not None and self.hidden.shape[1] == len(z)
        outputs, hidden = self.layer(z.unsqueeze(2), self.hidden if known else None)
        self.hidden = hidden.detach()
        return outputs[:, -1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("data", [ONE, SEVERAL], ids=["one", "several"])
def test_a_hidden_state_that_is_kept_is_named(data: Any) -> None:
    with pytest.raises(ValueError, match=r"module '1.1' \(Recurrent\) returns other outputs"):
        hessian(with_layer(Recurrent()), CROSS_ENTROPY, data)


@pytest.mark.parametrize("data", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("make", CHANGES.values(), ids=CHANGES)
def test_a_module_whose_outputs_change_is_named(make: Any, data: Any) -> None:
    with pytest.raises(ValueError, match=r"module '1.1' \(Layer\) returns other outputs for the same inputs"):
        top_eigenpairs(with_layer(make()), CROSS_ENTROPY, data)


def test_a_model_that_changes_itself_is_named_by_its_class() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(3, 4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.layer(x) * self.calls  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"the model \(Counts\) returns other outputs for the same inputs"):
        hessian(Counts(), CROSS_ENTROPY, ONE)


def test_a_batch_after_the_first_can_show_it() -> None:
    drawing = Layer(lambda layer, z: z + (float(next(layer.state)) if len(z) == 7 else 0.0), iter(range(99)))

    with pytest.raises(ValueError, match=r"module '1.1' \(Layer\) returns other outputs"):
        hessian(with_layer(drawing), CROSS_ENTROPY, SEVERAL)


def test_a_count_that_changes_no_output_is_accepted() -> None:
    def count(layer: Layer, z: Tensor) -> Tensor:
        layer.state += 1
        return z

    model = with_layer(Layer(count, 0))
    truth = oracles.double_backward(model, CROSS_ENTROPY, ONE)

    assert oracles.near(oracles.as_matrix(hessian(model, CROSS_ENTROPY, SEVERAL, dtype=torch.float64)), truth)


def test_a_buffer_that_changes_in_the_forward_pass_is_accepted() -> None:
    class Statistics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean: Tensor
            self.register_buffer("mean", torch.zeros(5))

        def forward(self, z: Tensor) -> Tensor:
            found: Tensor = z - self.mean
            self.mean = 0.9 * self.mean + 0.1 * z.detach().mean(0)
            return found

    model = with_layer(Statistics())

    found = oracles.as_matrix(hessian(model, CROSS_ENTROPY, SEVERAL, dtype=torch.float64))

    plain = with_layer(nn.Identity())
    assert oracles.near(found, oracles.double_backward(plain, CROSS_ENTROPY, ONE))


@pytest.mark.parametrize("detached", [True, False])
def test_a_cache_that_cuts_the_graph_is_an_error(detached: bool) -> None:
    """Its outputs repeat, and do not depend on the weights any more."""

    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 5), nn.Linear(5, 4)
            self.cache: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            found = self.cache
            if found is None:
                found = self.body(x)
                self.cache = found.detach() if detached else found
            return self.head(found.tanh())  # type: ignore[no-any-return]

    with pytest.raises(
        ValueError, match="depends on body.weight at the first call .* keeps tensors between calls"
    ):
        hessian(Caches(), CROSS_ENTROPY, ONE)


def test_a_model_that_changes_its_inputs_is_an_error() -> None:
    model = nn.Sequential(Layer(in_place), nn.Linear(3, 4))

    with pytest.raises(ValueError, match="the model changes its inputs in place"):
        hessian(model, CROSS_ENTROPY, (X.clone(), Y))


def test_a_loss_that_changes_is_named() -> None:
    calls: list[int] = []

    def loss(z: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return CROSS_ENTROPY(z, y) * len(calls)

    with pytest.raises(ValueError, match="the loss returns another value for the same outputs"):
        hessian(with_layer(nn.Identity()), loss, ONE)


def test_a_loss_that_draws_is_an_error() -> None:
    with pytest.raises(ValueError, match="the model or the loss draws random numbers, .* alone$"):
        hessian(
            with_layer(nn.Identity()),
            lambda z, y: CROSS_ENTROPY(z + random.random(), y),  # noqa: S311  # the global generator
            ONE,
        )


def test_last_bits_may_differ() -> None:
    """As sums on GPUs do, which add in an order of their own."""
    states = iter(range(10_000))
    model = with_layer(Layer(lambda _, z: z * (1 + 1e-7 * (next(states) % 2))))

    assert hessian(model, CROSS_ENTROPY, SEVERAL).dim == 44


class Images(Dataset[Any]):
    """Examples to which each access adds noise."""

    def __init__(self, noise: Callable[[], float]) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + self.noise(), Y[index]


GLOBAL: dict[str, Callable[[], float]] = {
    "python": random.random,
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002  # the global generator
    "torch": lambda: float(torch.rand(())),
}


@pytest.mark.parametrize("noise", GLOBAL.values(), ids=GLOBAL)
def test_data_that_draw_from_a_global_generator_are_the_same_at_each_pass(noise: Callable[[], float]) -> None:
    model = with_layer(nn.Identity())
    data = DataLoader(Images(noise), batch_size=5, shuffle=True)
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    operator = hessian(model, CROSS_ENTROPY, data, dtype=torch.float64)
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002

    first = oracles.as_matrix(operator)
    for draw in GLOBAL.values():
        draw()

    assert torch.equal(first, oracles.as_matrix(operator))
    batches = [(inputs, targets) for inputs, targets, _ in objective(model, CROSS_ENTROPY, data).batches()]
    seen = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
    assert not torch.equal(seen[0].sort(0).values, X.sort(0).values)
    assert len(seen[1]) == len(Y)


OWN: dict[str, Callable[[], float]] = {
    "python": random.Random(0).random,  # noqa: S311
    "numpy": OF_NUMPY.random,
    "torch": lambda: float(torch.rand((), generator=OF_TORCH)),
}


@pytest.mark.parametrize("noise", OWN.values(), ids=OWN)
@pytest.mark.parametrize("size", [5, 13])
def test_data_that_draw_from_a_generator_of_their_own_are_an_error(
    noise: Callable[[], float], size: int
) -> None:
    with pytest.raises(ValueError, match="the data differ between two passes: batch 1 has other inputs"):
        hessian(with_layer(nn.Identity()), CROSS_ENTROPY, DataLoader(Images(noise), batch_size=size))


class Shuffled:
    """Batches in an order that is another each time."""

    def __init__(self, shuffle: Callable[[list[Any]], None], drop: bool = False) -> None:
        self.shuffle, self.drop, self.passes = shuffle, drop, 0

    def __iter__(self) -> Iterator[Any]:
        batches = oracles.chunks((X, Y), *[1] * 13)
        self.shuffle(batches)
        self.passes += 1
        yield from batches[: -self.passes if self.drop else None]


def test_data_shuffled_by_the_global_generator_are_the_same_at_each_pass() -> None:
    operator = hessian(with_layer(nn.Identity()), CROSS_ENTROPY, Shuffled(random.shuffle))

    assert torch.equal(operator @ torch.ones(operator.dim), operator @ torch.ones(operator.dim))


def test_data_shuffled_by_a_generator_of_their_own_are_an_error() -> None:
    with pytest.raises(ValueError, match="the data differ between two passes: batch 1 has other inputs"):
        hessian(
            with_layer(nn.Identity()),
            CROSS_ENTROPY,
            Shuffled(random.Random(0).shuffle),  # noqa: S311
        )


def test_data_with_another_number_of_batches_at_each_pass_are_an_error() -> None:
    with pytest.raises(ValueError, match="there are 12 batches at the first and 11 at the second"):
        hessian(with_layer(nn.Identity()), CROSS_ENTROPY, Shuffled(lambda _: None, drop=True))


class Late(nn.Module):
    """Returns other outputs after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.remaining = calls

    def forward(self, z: Tensor) -> Tensor:
        self.remaining -= 1
        return z if self.remaining >= 0 else 1.1 * z


class LateData:
    """Batches that are others from the third pass on, the last of them alone."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        first, last = oracles.chunks((X, Y), 6, 7)
        yield first
        yield (last if self.passes <= 2 else (1.1 * last[0], last[1]))


ESTIMATES: dict[str, Callable[[Any], Any]] = {
    "top_eigenpairs": top_eigenpairs,
    "trace": lambda operator: trace(operator, 24),
    "spectral_density": lambda operator: spectral_density(operator, 2, 20),
    "preconditioned": lambda operator: trace(preconditioned(operator, torch.ones(operator.dim)), 24),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_estimate_whose_model_or_data_changed_meanwhile_is_an_error(name: str) -> None:
    changing = with_layer(Late(9))
    with pytest.raises(
        ValueError, match="the model or the loss returns another value at a later call than at"
    ):
        ESTIMATES[name](hessian(changing, CROSS_ENTROPY, oracles.chunks((X, Y), 6, 7)))
    with pytest.raises(ValueError, match="batch 2 has other inputs at a later one"):
        ESTIMATES[name](hessian(with_layer(nn.Identity()), CROSS_ENTROPY, LateData()))


def test_a_landscape_whose_model_changed_meanwhile_is_an_error() -> None:
    model, lines = with_layer(Late(9)), [torch.linspace(0, 1, 9).tolist()]
    direction = torch.ones(1, sum(p.numel() for p in model.parameters()))

    with pytest.raises(ValueError, match="another value at a later call than at the first"):
        loss_landscape(model, CROSS_ENTROPY, (X, Y), direction, lines)
