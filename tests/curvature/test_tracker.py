"""Eigenpairs followed from step to step: what is seen, what is kept, and that training does not notice."""

import gc
import io
import math
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.curvature import EigenTracker, certify, precision, top_eigenpairs
from optstudy.curvature.tracker import largest_angle

DIM = 40
Observed = list[dict[str, Any]]


@dataclass
class At:
    """The state of training before a step, as a tracker reads it."""

    step: int
    model: nn.Module
    optimizer: torch.optim.Optimizer = field(
        default_factory=lambda: torch.optim.SGD([torch.zeros(1)], lr=0.1)
    )


class Moved(nn.Module):
    """A quadratic whose matrix is a buffer, so that it can be moved step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(DIM, dtype=torch.float64))
        self.register_buffer("diagonal", torch.zeros(DIM, dtype=torch.float64))

    def forward(self, _: Tensor) -> Tensor:
        return (self.diagonal * self.weights**2).sum() / 2

    def at(self, *top: float) -> "Moved":
        """Set the first values; the rest lie evenly below 0.3."""
        rest = torch.linspace(-0.3, 0.3, DIM - len(top), dtype=torch.float64)
        self.diagonal = torch.cat([torch.tensor(top, dtype=torch.float64), rest])
        return self


def as_loss(z: Tensor, _: Tensor) -> Tensor:
    return z


def tracker(steps: int = 60, **options: Any) -> EigenTracker:
    return EigenTracker(as_loss, oracles.NOTHING, range(steps), **options)


def look(probe: EigenTracker, context: At, state: Any) -> tuple[Any, dict[str, Any]]:
    """Observe one step."""
    state, values = probe.observe(context, state)
    return state, dict(values)


def watch(probe: EigenTracker, moments: list[At], state: Any = None) -> tuple[Any, Observed]:
    seen: Observed = []
    for context in moments:
        if probe.is_due(context):
            state, values = look(probe, context, state)
            seen.append({"step": context.step, **values})
    return state, seen


def overtaking(step: int) -> tuple[float, float, float]:
    """The third rises from below everything, and passes the second at step 30."""
    return 2.0 + 0.01 * step, 1.0, 0.4 + 0.02 * step


def test_agrees_with_a_fresh_search_wherever_it_is_verified() -> None:
    model, state, probe = Moved(), None, tracker()
    for step in range(60):
        context = At(step, model.at(2 + math.sin(step / 9), 1.5 - step / 100, 0.9 + math.cos(step / 7) / 3))
        state, found = look(probe, context, state)
        truth = model.diagonal[model.diagonal.abs().argsort(descending=True)]
        fresh = top_eigenpairs(model, as_loss, oracles.NOTHING, tolerance=1e-3)
        if found["verified"]:
            assert found["lambda_1"] == pytest.approx(float(truth[0]), rel=1e-3)
            assert found["lambda_2"] == pytest.approx(float(truth[1]), rel=1e-3)
            assert found["ratio"] == pytest.approx(fresh.ratio.value, rel=2e-3)
            assert found["ratio_low"] <= float(truth[0] / truth[1]) * (1 + 1e-12)
            assert float(truth[0] / truth[1]) <= found["ratio_high"] * (1 + 1e-12)
        assert found["residual_1"] <= 1e-3 * found["lambda_1"]
        assert found["loss"] == pytest.approx(float(model.diagonal.sum()) / 2)
        assert found["verdict"] in {"separated", "degenerate", "unresolved"}
        assert found["sign"] in {"same", "opposite", "open"}


def test_the_first_the_last_and_every_25th_step_are_verified() -> None:
    model = Moved().at(2.0, 1.0)

    _, seen = watch(tracker(60), [At(step, model) for step in range(60)])

    assert [each["step"] for each in seen if each["verified"]] == [0, 25, 50, 59]
    assert all(math.isnan(each["probability"]) != bool(each["verified"]) for each in seen)


def test_verified_steps_are_counted_within_the_tracked_range() -> None:
    model = Moved().at(2.0, 1.0)
    probe = EigenTracker(as_loss, oracles.NOTHING, range(100, 400, 4), verify_every=10)

    _, seen = watch(probe, [At(step, model) for step in range(500)])

    assert [each["step"] for each in seen] == list(range(100, 400, 4))
    assert [each["step"] for each in seen if each["verified"]] == [*range(100, 400, 40), 396]


def test_the_first_observed_step_is_verified() -> None:
    model = Moved().at(2.0, 1.0)

    _, seen = watch(tracker(60), [At(step, model) for step in range(7, 30)])

    assert [each["step"] for each in seen if each["verified"]] == [7, 25]
    assert seen[0]["lambda_1"] == pytest.approx(2.0)


def test_a_value_that_overtakes_unseen_is_found_by_the_next_verified_step() -> None:
    """Its vector is a unit vector, and no product of what is tracked has a part along it."""
    model = Moved()

    def moments() -> Iterator[At]:
        for step in range(60):
            yield At(step, model.at(*overtaking(step)))

    state, seen, probe = None, [], tracker()
    for context in moments():
        state, values = look(probe, context, state)
        seen.append(values)

    assert seen[50]["lambda_2"] == pytest.approx(1.4, rel=1e-3)
    lost = [
        step
        for step in range(50)
        if seen[step]["lambda_2"] != pytest.approx(max(1, 0.4 + 0.02 * step), rel=1e-2)
    ]
    assert seen[50]["missed"] == float(49 in lost)
    assert 25 not in lost
    assert seen[59]["lambda_2"] == pytest.approx(1.58, rel=1e-3)


def test_a_check_that_finds_a_lost_value_reports_missed() -> None:
    model, probe = Moved().at(2.0, 1.0), tracker(50)
    state, _ = look(probe, At(0, model), None)
    # The state knows the first two unit vectors to the last bit, and nothing of the third.
    state["vectors"] = torch.eye(DIM, dtype=torch.float64)[:2]
    state["other_values"], state["other_vectors"] = state["other_values"][:0], state["other_vectors"][:0]
    model.at(2.0, 1.0, 1.5)

    state, tracked = look(probe, At(24, model), state)
    state, verified = look(probe, At(25, model), state)

    assert tracked["lambda_2"] == pytest.approx(1.0)
    assert (tracked["missed"], tracked["verified"]) == (0.0, 0.0)
    assert verified["lambda_2"] == pytest.approx(1.5)
    assert (verified["missed"], verified["verified"]) == (1.0, 1.0)
    assert verified["probability"] <= 0.05


def test_the_step_after_a_missed_value_is_verified() -> None:
    model, probe = Moved().at(2.0, 1.0), tracker(50)
    state, _ = look(probe, At(0, model), None)
    state["vectors"] = torch.eye(DIM, dtype=torch.float64)[:2]
    state["other_values"], state["other_vectors"] = state["other_values"][:0], state["other_vectors"][:0]
    model.at(2.0, 1.0, 1.5)

    _, seen = watch(probe, [At(step, model) for step in (25, 26, 27)], state)

    assert [(each["missed"], each["verified"]) for each in seen] == [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]


class Quartic(nn.Module):
    """A quadratic in two directions, and a fourth power in a third, whose curvature grows along it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(DIM, dtype=torch.float64))

    def forward(self, _: Tensor) -> Tensor:
        small = 0.1 * (self.weights[3:] ** 2).sum() / 2
        return self.weights[0] ** 2 + self.weights[1] ** 2 / 2 + self.weights[2] ** 4 / 12 + small

    def at(self, position: float) -> "Quartic":
        """Set the position in the third direction, where the curvature is its square."""
        with torch.no_grad():
            self.weights[2] = position
        return self


@pytest.mark.parametrize(
    ("before", "after", "alarm"), [(1.7, 1.9, True), (0.6, 0.8, False), (0.6, 0.6, False)]
)
def test_a_step_whose_gradients_show_a_larger_value_is_verified(
    before: float, after: float, alarm: bool
) -> None:
    """The tracked vectors hold nothing of the third direction, along which the weights move."""
    model, probe = Quartic(), tracker(50)
    state, _ = look(probe, At(0, model.at(0.0)), None)
    state["vectors"] = torch.eye(DIM, dtype=torch.float64)[:2]
    state["other_values"], state["other_vectors"] = state["other_values"][:0], state["other_vectors"][:0]
    for step, position in ((10, before), (11, after)):
        state["vectors"] = torch.eye(DIM, dtype=torch.float64)[:2]
        state, found = look(probe, At(step, model.at(position)), state)

    assert found["verified"] == float(alarm)
    second, first = sorted((2.0, 1.0, after**2))[1:]
    assert (found["lambda_1"], found["lambda_2"]) == pytest.approx((first, second), rel=1e-3)


def test_a_state_without_weights_and_gradient_is_followed_by_a_verified_step() -> None:
    """States of version 0.1 have none."""
    model, probe = Moved().at(2.0, 1.0), tracker(50)
    state, _ = look(probe, At(0, model), None)
    for name in ("weights", "gradient", "missed"):
        del state[name]

    _, seen = watch(probe, [At(step, model) for step in (1, 2)], state)

    assert [each["verified"] for each in seen] == [1.0, 0.0]


def test_the_state_does_not_share_memory_with_the_model() -> None:
    model, probe = Moved().at(2.0, 1.0), tracker(50)
    state, _ = look(probe, At(0, model), None)
    before = state["weights"].clone()

    with torch.no_grad():
        model.weights.add_(1)

    assert torch.equal(state["weights"], before)


class Turned(nn.Module):
    """A quadratic with a matrix."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(DIM, dtype=torch.float64))
        self.register_buffer("matrix", matrix)

    def forward(self, _: Tensor) -> Tensor:
        half: Tensor = self.weights @ self.matrix @ self.weights / 2
        return half


def turning(step: int) -> Turned:
    """A quadratic whose eigenvectors turn by one degree a step, each with those beside it."""
    a = oracles.symmetric(oracles.bulk(3.0, 2.0, 1.8, -1.5, 1.2, 1.0, dim=DIM))
    skew = torch.diag(torch.ones(DIM - 1, dtype=torch.float64), 1)
    turned = torch.linalg.matrix_exp(math.radians(step) * (skew - skew.T)) @ a.matrix
    return Turned(turned @ torch.linalg.matrix_exp(-math.radians(step) * (skew - skew.T)))


@pytest.mark.parametrize(("degrees", "kept", "alarm"), [(30, 2, True), (30, 3, False), (10, 2, False)])
def test_a_step_whose_vectors_leave_the_last_ones_is_verified(degrees: float, kept: int, alarm: bool) -> None:
    """The second vector turns towards the third, which the state may have among its extra pairs."""
    angle, probe, units = math.radians(degrees), tracker(50), torch.eye(DIM, dtype=torch.float64)
    values, turn = torch.linspace(0.3, -0.3, DIM, dtype=torch.float64), units.clone()
    values[:3] = torch.tensor([2.0, 1.0, 0.5])
    turn[1:3, 1:3] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    state, _ = look(probe, At(0, Turned(values.diag())), None)
    state |= {"vectors": units[:2], "other_values": values[2:kept], "other_vectors": units[2:kept]}
    model = Turned(turn @ values.diag() @ turn.T)

    _, found = look(probe, At(1, model), state)

    assert found["verified"] == float(alarm)
    assert found["angle"] == pytest.approx(angle, rel=1e-2)
    assert found["lambda_2"] == pytest.approx(1.0, rel=1e-3)


def test_extra_pairs_save_products() -> None:
    moments = [At(step, turning(step)) for step in range(40)]

    def products(extra_pairs: int) -> float:
        _, seen = watch(tracker(40, extra_pairs=extra_pairs), moments)
        for context, found in zip(moments, seen, strict=True):
            assert found["lambda_2"] == pytest.approx(2.0, rel=1e-3), context.step
        return math.fsum(each["products"] for each in seen if not each["verified"])

    assert products(10) < 0.9 * products(0)


@pytest.mark.parametrize("extra_pairs", [0, 3, 10])
def test_at_most_the_given_number_of_extra_pairs_is_carried_over(extra_pairs: int) -> None:
    probe = tracker(60, extra_pairs=extra_pairs)
    state: dict[str, Any] = {}
    for step in range(20):
        state, _ = look(probe, At(step, turning(step)), state)
        assert state["vectors"].shape == (2, DIM)
        assert state["other_vectors"].shape == (len(state["other_values"]), DIM)
        assert len(state["other_values"]) <= extra_pairs

    assert len(state["other_values"]) == extra_pairs


def test_after_the_last_step_the_state_is_empty() -> None:
    model = Moved().at(2.0, 1.0)

    state, seen = watch(tracker(3), [At(step, model) for step in range(3)])

    assert (state, len(seen)) == ({}, 3)


def test_angle_and_gradient_share_are_those_of_a_dense_computation() -> None:
    model, probe = oracles.net(3, 5, 4).double(), None
    x, y = oracles.examples()
    batch = x.double(), y
    probe = EigenTracker(functional.cross_entropy, batch, range(3), tolerance=1e-8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    state, planes = None, []
    for step in range(3):
        values, vectors = torch.linalg.eigh(oracles.dense_hessian(model, functional.cross_entropy, batch))
        planes.append(vectors.T[values.abs().argsort(descending=True)[:2]])
        gradient = oracles.dense_gradient(model, functional.cross_entropy, batch)
        state, found = look(probe, At(step, model), state)

        share = float((planes[-1] @ gradient).square().sum() / gradient.square().sum())
        assert found["gradient_share"] == pytest.approx(share, rel=1e-5)
        if step:
            cosines = torch.linalg.svdvals(planes[-2] @ planes[-1].T)
            assert found["angle"] == pytest.approx(math.acos(float(cosines.min())), rel=1e-4)
        else:
            assert math.isnan(float(found["angle"]))
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(batch[0]), y))
        optimizer.step()


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, math.pi / 2])
def test_largest_angle_is_exact_for_small_ones_too(angle: float) -> None:
    one = torch.eye(4, dtype=torch.float64)[:2]
    two = one.clone()
    two[1, 1], two[1, 2] = math.cos(angle), math.sin(angle)

    assert largest_angle(one, two) == pytest.approx(angle, rel=1e-12, abs=1e-15)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return type(value) in (Tensor, float, bool, int, str)


def test_the_state_is_plain_and_a_resumed_tracker_gives_the_same_bits() -> None:
    model, probe = Moved(), tracker()
    moments = [At(step, Moved().at(*overtaking(step))) for step in range(60)]
    whole, seen = watch(probe, moments)
    half, first = watch(probe, moments[:33])
    assert plain(half)
    buffer = io.BytesIO()
    torch.save(half, buffer)
    buffer.seek(0)

    resumed, second = watch(tracker(), moments[33:], torch.load(buffer, weights_only=True))

    assert model is not None
    assert repr(first + second) == repr(seen)  # nan equals nan in this
    assert oracles.same([*whole.values()], [*resumed.values()])


def test_the_callers_state_is_not_modified() -> None:
    model, probe = Moved().at(2.0, 1.0), tracker()
    state, _ = look(probe, At(0, model), None)
    before = state["vectors"].clone()

    look(probe, At(1, model.at(1.0, 3.0)), state)

    assert torch.equal(before, state["vectors"])


def test_float64_is_used_from_the_first_step_that_needs_it() -> None:
    torch.manual_seed(0)
    model = oracles.net(3, 8, 4)
    x, _ = oracles.examples(40)
    with torch.no_grad():
        top = model(x).topk(2).values
        keep = (top[:, 0] - top[:, 1]) > 0.15
        batch = x[keep], model(x[keep]).argmax(1)
        last = model[-1]
        assert isinstance(last, nn.Linear)
        easy = last.weight.clone(), last.bias.clone()
    probe = EigenTracker(functional.cross_entropy, batch, range(10))
    state, doubles, products = None, [], []
    for step in range(10):
        with torch.no_grad():  # logits as of an untrained net at first, of an interpolating one from step 3
            scale = 1 if step < 3 else 110
            last.weight.copy_(scale * easy[0])
            last.bias.copy_(scale * easy[1])
        state, found = look(probe, At(step, model), state)
        truth = oracles.by_magnitude(oracles.dense_hessian(model, functional.cross_entropy, batch))
        assert found["lambda_1"] == pytest.approx(float(truth[0]), rel=1e-3)
        doubles.append(found["double"])
        products.append(found["products"])

    assert doubles == [0.0] * 3 + [1.0] * 7
    assert max(products[4:-1]) < 20  # the last is verified


def test_a_non_finite_loss_is_reported_and_tracking_continues() -> None:
    model, probe = Moved().at(2.0, 1.0), tracker(30)
    state, _ = look(probe, At(0, model), None)
    for step in (1, 25):  # tracked, and verified
        state, found = look(probe, At(step, model.at(math.nan, 1.0)), state)
        assert math.isnan(float(found["loss"]))
        assert "lambda_1" not in found
    state, found = look(probe, At(26, model.at(2.0, 1.0)), state)
    assert found["lambda_1"] == pytest.approx(2.0)

    first, found = look(probe, At(0, model.at(math.nan, 1.0)), None)
    _, found = look(probe, At(1, model.at(2.0, 1.0)), first)
    assert found["verified"] == 1.0


def test_tracking_one_pair_is_an_error() -> None:
    with pytest.raises(ValueError, match="k is 1"):
        tracker(k=1)


def test_a_negative_number_of_extra_pairs_is_an_error() -> None:
    with pytest.raises(ValueError, match="extra_pairs is -1; give 0 or more"):
        tracker(extra_pairs=-1)


def test_more_pairs_than_parameters_are_an_error() -> None:
    with pytest.raises(ValueError, match="k is 41; the model has 40 selected parameters"):
        look(tracker(k=41), At(0, Moved().at(2.0, 1.0)), None)


def test_preconditioned_tracks_the_preconditioned_hessian() -> None:
    model = oracles.net(3, 5, 4).double()
    x, y = oracles.examples()
    batch = x.double(), y
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-3)
    probe = EigenTracker(functional.cross_entropy, batch, range(0, 10, 3), preconditioned=True)
    assert not probe.is_due(At(0, model, optimizer))  # it has not stepped
    state = None
    for step in range(1, 10):
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(batch[0]), y))
        optimizer.step()
        if not probe.is_due(At(step, model, optimizer)):
            continue
        state, found = look(probe, At(step, model, optimizer), state)
        v = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in model.parameters()])
        p = (1 - 0.9**step) * ((v / (1 - 0.999**step)).sqrt() + 1e-3)
        dense = oracles.dense_hessian(model, functional.cross_entropy, batch) / (
            p.sqrt().unsqueeze(1) * p.sqrt()
        )
        assert found["lambda_1"] == pytest.approx(float(oracles.by_magnitude(dense)[0]), rel=1e-3)
        assert (found["verified"] == 1.0) == (step in (3, 9))


def test_a_preconditioner_with_a_zero_gives_no_values() -> None:
    model = oracles.net(3, 5, 4)
    x, y = oracles.examples()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, eps=0.0)
    torch.autograd.backward(functional.cross_entropy(model(0 * x), y))  # no gradient reaches the first layer
    optimizer.step()
    probe = EigenTracker(functional.cross_entropy, (x, y), range(5), preconditioned=True)

    state, found = look(probe, At(1, model, optimizer), None)

    assert set(found) == {"loss"}
    assert state == {}


@pytest.mark.slow
def test_memory_stays_flat_over_five_hundred_steps() -> None:
    model, batch = oracles.net(30, 60, 4), oracles.examples(300, inputs=30)
    probe = EigenTracker(functional.cross_entropy, batch, range(600))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    state: Any = None

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(found), Tensor) for found in gc.get_objects())

    def walk(first: int, last: int) -> None:
        nonlocal state
        for step in range(first, last):
            state, _ = look(probe, At(step, model), state)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(batch[0]), batch[1]))
            optimizer.step()

    walk(0, 50)
    before, peak = tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walk(50, 550)

    assert tensors() <= before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 8_000  # KiB; a graph is some 300


def test_a_large_model_is_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (certify, precision):
        monkeypatch.setattr(module, "MANY_ENTRIES", 1)
    model, probe = oracles.net(3, 8, 4), EigenTracker(functional.cross_entropy, oracles.examples(), range(2))
    state: Any = None

    for step in range(2):
        state, values = look(probe, At(step, model), state)

        assert values["lambda_1"] > values["lambda_2"] > 0
