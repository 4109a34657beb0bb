"""Data in the forms in which people have them: the same Hessian as that of the pair (inputs, targets)."""

import collections
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.data import DataLoader

from optstudy.curvature import fisher, gauss_newton, hessian, trace

X, Y = oracles.examples()
MASK = (torch.rand(13, 3, generator=torch.Generator().manual_seed(2)) > 0.3).float()


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of the user's own, so that nothing is known of it."""
    return functional.cross_entropy(outputs, targets)


class Masked(nn.Module):
    """A net of two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is not None
        return self.layer(x * mask).tanh()  # type: ignore[no-any-return]


class OwnRecord:
    """A record like PyG's: a mapping inside, and a `to` that modifies it."""

    def __init__(self, x: Tensor, edges: Tensor) -> None:
        self._store = {"x": x, "edges": edges}

    def to(self, *arguments: Any) -> "OwnRecord":
        for name, item in self._store.items():
            self._store[name] = item.to(*arguments)
        return self

    def __getattr__(self, name: str) -> Tensor:
        try:
            found: Tensor = self.__dict__["_store"][name]
        except KeyError:
            raise AttributeError(name) from None
        return found


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    x: Tensor
    edges: Tensor


class TupleGraph(NamedTuple):
    x: Tensor
    edges: Tensor


class Graphs(nn.Module):
    """A net of one record."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, graph: Any, scale: float = 1.0) -> Tensor:
        assert graph.edges.dtype == torch.int64
        spread = torch.zeros(13, 3, dtype=graph.x.dtype).index_add(0, graph.edges[1], graph.x[graph.edges[0]])
        return self.layer(scale * (graph.x + spread)).tanh()  # type: ignore[no-any-return]


class WholeMapping(nn.Module):
    """A net that takes a mapping as its one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.layer(batch["x"] * batch["mask"]).tanh()  # type: ignore[no-any-return]


class Owned(MutableMapping[str, Any]):
    """A mapping that copies its dict by reference, as most that people write."""

    def __init__(self, items: dict[str, Any]) -> None:
        self.items_ = items

    def __getitem__(self, key: str) -> Any:
        return self.items_[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.items_[key] = value

    def __delitem__(self, key: str) -> None:
        del self.items_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.items_)

    def __len__(self) -> int:
        return len(self.items_)


BOTH = {"x": X, "mask": MASK}
EDGES = torch.tensor([[0, 1, 5, 12], [3, 3, 2, 0]])


def masked(model: Any) -> Tensor:
    return functional.cross_entropy(model.layer(X.double() * MASK.double()).tanh(), Y)


def graph(model: Any) -> Tensor:
    x = X.double()
    spread = torch.zeros(13, 3, dtype=torch.float64).index_add(0, EDGES[1], x[EDGES[0]])
    return functional.cross_entropy(model.layer(x + spread).tanh(), Y)


def plain(model: Any) -> Tensor:
    return functional.cross_entropy(model(X.double()), Y)


class Labelled(NamedTuple):
    x: Tensor
    mask: Tensor
    labels: Tensor


class Swapped(NamedTuple):
    label: Tensor
    image: Tensor


def net() -> nn.Module:
    return oracles.net(3, 5, 4)


# The model, one batch, and the loss that it means.
FORMS: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[nn.Module], Tensor]]] = {
    "inputs in a dict": (Masked, (BOTH, Y), masked),
    "inputs in a UserDict": (Masked, (collections.UserDict(BOTH), Y), masked),
    "inputs in a mapping of their own": (Masked, (Owned(BOTH), Y), masked),
    "inputs in a mapping that cannot change": (Masked, (types.MappingProxyType(BOTH), Y), masked),
    "inputs as one mapping": (WholeMapping, (BOTH, Y), masked),
    "inputs in a tuple": (Masked, ((X, MASK), Y), masked),
    "inputs in a list": (Masked, ([X, MASK], Y), masked),
    "a dict with labels": (Masked, {**BOTH, "labels": Y}, masked),
    "a UserDict with targets": (Masked, collections.UserDict({**BOTH, "targets": Y}), masked),
    "a dict with one other key": (net, {"pixels": X, "y": Y}, plain),
    "a named tuple with labels": (Masked, Labelled(X, MASK, Y), masked),
    "a named tuple, labels first": (net, Swapped(Y, X), plain),
    "a frozen dataclass": (Graphs, (FrozenGraph(X, EDGES), Y), graph),
    "a named tuple of inputs": (Graphs, (TupleGraph(X, EDGES), Y), graph),
    "a record with its own to": (Graphs, (OwnRecord(X, EDGES), Y), graph),
    "a namespace": (Graphs, (types.SimpleNamespace(x=X, edges=EDGES), Y), graph),
}


@pytest.mark.parametrize("several", [False, True], ids=["one", "a list"])
@pytest.mark.parametrize("form", FORMS)
def test_a_clear_batch_has_the_hessian_of_its_pair(form: str, several: bool) -> None:
    make, batch, meaning = FORMS[form]
    torch.manual_seed(0)
    model = make()

    found = hessian(model, cross_entropy, [batch] if several else batch, dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), oracles.hessian_of(model, meaning))


def test_records_of_the_user_are_not_modified() -> None:
    records: list[Any] = [OwnRecord(X, EDGES), FrozenGraph(X, EDGES), TupleGraph(X, EDGES)]
    mappings = [Owned({"graph": record}) for record in records]
    for mapping in mappings:
        hessian(Graphs(), cross_entropy, (mapping, Y), dtype=torch.float64)

    assert all(mapping["graph"] is record for mapping, record in zip(mappings, records, strict=True))
    assert all(record.x is X for record in records)


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.GRU(3, 2, batch_first=True), nn.Linear(2, 4)

    def forward(self, sequence: PackedSequence) -> Tensor:
        return self.outer(self.inner(sequence)[1][-1])  # type: ignore[no-any-return]


def test_a_packed_sequence_stays_one() -> None:
    torch.manual_seed(0)
    model, padded, labels = Sequences(), torch.randn(4, 5, 3), Y[:4]

    def pack(x: Tensor) -> PackedSequence:
        return pack_padded_sequence(x, [2, 5, 3, 4], batch_first=True, enforce_sorted=False)

    found = hessian(model, cross_entropy, (pack(padded), labels), dtype=torch.float64)

    truth = oracles.hessian_of(model, lambda m: cross_entropy(m(pack(padded.double())), labels))
    assert oracles.near(oracles.as_matrix(found), truth)


def test_a_loader_of_dicts_has_the_hessian_of_all_examples() -> None:
    model = Masked()
    examples = [{"x": x, "mask": mask, "labels": y} for x, mask, y in zip(X, MASK, Y, strict=True)]

    for loss in (cross_entropy, functional.cross_entropy):
        found = hessian(model, loss, DataLoader(examples, batch_size=5), dtype=torch.float64)  # type: ignore[arg-type]

        assert oracles.near(oracles.as_matrix(found), oracles.hessian_of(model, masked))


def test_two_batches_with_labels_are_no_pair_of_inputs_and_targets() -> None:
    data = [{"x": X[:6], "labels": Y[:6]}, {"x": X[6:], "labels": Y[6:]}]
    model = net()

    for batches in (data, tuple(data)):
        found = hessian(model, functional.cross_entropy, batches, dtype=torch.float64)

        assert oracles.near(oracles.as_matrix(found), oracles.hessian_of(model, plain))


class Output(collections.OrderedDict[str, Any]):
    """An output like those of transformers."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Classifier(nn.Module):
    """A model like those of transformers, which computes its own loss from labels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, mask: Tensor, labels: Tensor | None = None) -> Output:
        logits = self.layer(x * mask).tanh()
        return Output(
            loss=None if labels is None else functional.cross_entropy(logits, labels), logits=logits
        )


@pytest.mark.parametrize(
    "loss",
    [lambda output, _: output.loss, lambda output, labels: functional.cross_entropy(output.logits, labels)],
    ids=["its own", "of the logits"],
)
def test_a_loss_gets_the_output_of_a_model_that_takes_the_labels(loss: Any) -> None:
    torch.manual_seed(0)
    model = Classifier()

    found = hessian(model, loss, collections.UserDict({**BOTH, "labels": Y}), dtype=torch.float64)

    assert oracles.near(oracles.as_matrix(found), oracles.hessian_of(model, masked))


@dataclass
class Both:
    a: Tensor
    b: Tensor


@pytest.mark.parametrize(
    "make", [lambda a, b: {"a": a, "b": b}, lambda a, b: (a, b), Both], ids=["dict", "tuple", "record"]
)
def test_targets_of_several_parts_reach_a_loss_as_they_are(make: Callable[[Tensor, Tensor], Any]) -> None:
    real = torch.randn(13, 4, generator=torch.Generator().manual_seed(3))

    def parts(targets: Any) -> tuple[Tensor, Tensor]:
        if isinstance(targets, dict):
            return targets["a"], targets["b"]
        return (targets.a, targets.b) if isinstance(targets, Both) else targets

    def loss(z: Tensor, targets: Any) -> Tensor:
        labels, values = parts(targets)
        assert values.dtype == z.dtype
        return functional.cross_entropy(z, labels) + (z - values).square().mean()

    model = net()
    truth = oracles.hessian_of(model, lambda m: loss(m(X.double()), make(Y, real.double())))
    several = [(X[:4], make(Y[:4], real[:4])), (X[4:], make(Y[4:], real[4:]))]
    for data in ((X, make(Y, real)), several):
        for build in (hessian, gauss_newton):
            found = oracles.as_matrix(build(model, loss, data, dtype=torch.float64))
            if build is hessian:
                assert oracles.near(found, truth)
    with pytest.raises(TypeError, match="requires a single target tensor"):
        fisher(model, loss, (X, make(Y, real)))


TWO_LABELS = {"x": X, "label": Y, "target": Y}
UNCLEAR: dict[str, tuple[Any, str]] = {
    "a triple": (
        [(X, Y, torch.arange(13))],
        "an int64 tensor of shape (13,), an int64 tensor of shape (13,)); give pairs (inputs, targets)",
    ),
    "no labels": (
        {"x": X, "mask": MASK},
        "the first batch is a dict with the keys x, mask: none is named as the targets",
    ),
    "two labels": (TWO_LABELS, "with the keys x, label, target: both label and target may be the targets"),
    "labels alone": ({"labels": Y}, "so it has no inputs"),
    "keys that the model does not take": (
        {"x": X, "mask": MASK, "labels": Y},
        "but Sequential.forward takes (input); give pairs (inputs, targets)",
    ),
    "a tuple of one tensor": ((X,), "data is a tuple of 1 (a float32 tensor of shape (13, 3)); give a batch"),
    "a tuple of three": (
        (X, MASK, Y),
        "data is a tuple of 3 (a float32 tensor of shape (13, 3), a float32 tensor",
    ),
    "a list of one tensor": ([X], "the first batch is a float32 tensor of shape (13, 3); give pairs"),
    "targets first": (
        (Y, X),
        "the targets are a float32 tensor of shape (13, 3): a batch is (inputs, targets)",
    ),
    "one example": (
        [(X[0], Y[0]), (X[1], Y[1])],
        "it seems to be one example; give batches, as a DataLoader does",
    ),
    "one example with a number": (
        [(X[0], 1), (X[1], 2)],
        "the targets of the first batch are the single number 1",
    ),
    "a later example": ([(X, Y), (X[0], Y[0])], "the targets of batch 2 are the single number"),
    "no targets": ((X, None), "the targets of the first batch are None; give tensors"),
    "arrays": (
        (X.numpy(), Y.numpy()),
        "the inputs and the targets of the first batch are a ndarray; give tensors",
    ),
    "an array of inputs": ((X.numpy(), Y), "the inputs of the first batch are a ndarray; give tensors"),
    "an array of targets": ((X, Y.numpy()), "the targets of the first batch are a ndarray; give tensors"),
    "a record for a batch": (
        [Both(X, Y)],
        "the first batch is a Both with a, b; give pairs (inputs, targets)",
    ),
}


@pytest.mark.parametrize(("data", "message"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_a_batch_whose_meaning_is_unclear_is_described(data: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the message is compared below
        trace(hessian(net(), functional.cross_entropy, data))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
