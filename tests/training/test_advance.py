"""`advance` is a pure function, and trains as a plain loop does."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cases
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.optimizers import load_space
from optstudy.records.plan import Plan, Split, steps_per_epoch
from optstudy.records.space import Space
from optstudy.training import RunState, StepContext, advance, run_rung, start
from optstudy.workloads.batches import epoch_order
from optstudy.workloads.datasets import load
from optstudy.workloads.user_code import call

EVERY_OPTIMIZER = pytest.mark.parametrize("space", cases.spaces(), ids=lambda space: space.name)
ONE_OF_EACH_KIND = pytest.mark.parametrize("space", {space.needs: space for space in cases.spaces()}.values())


@dataclass(frozen=True)
class Loop:
    """What the plain loop found."""

    losses: list[float]  # by epoch
    accuracies: list[float]
    norm: float  # of .grad before the last step
    model: nn.Module


def plain_loop(state: RunState, plan: Plan) -> Loop:
    """Train by gradient descent as in any tutorial, from the same weights, on the same batches."""
    data, model = load(plan.dataset), call(plan.model)
    x, y = data.train_x / 255, data.train_y
    model.load_state_dict(state.model)
    losses, accuracies, norm = [], [], math.nan
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state.generators["cpu"])
        for epoch in range(1, plan.epochs + 1):
            order, total, correct = epoch_order(len(y), plan.seed, epoch), 0.0, 0
            model.train()
            for first in range(0, len(y), plan.batch_size):
                chosen = order[first : first + plan.batch_size]
                outputs = model(x[chosen])
                loss = functional.cross_entropy(outputs, y[chosen])
                model.zero_grad()
                torch.autograd.backward(loss)
                norm = math.sqrt(sum(float(p.grad.double().pow(2).sum()) for p in model.parameters()))
                with torch.no_grad():
                    for p in model.parameters():
                        p.sub_(plan.method.arguments["lr"] * p.grad)
                total += loss.item() * len(chosen)
                correct += int((outputs.argmax(1) == y[chosen]).sum())
            losses.append(total / len(y))
            accuracies.append(correct / len(y))
    return Loop(losses, accuracies, norm, model)


@dataclass(frozen=True)
class Reader:
    """Reads all that a step could touch: a forward and backward pass of its own, buffers, every second step."""

    name: str = "reader"

    def is_due(self, context: StepContext) -> bool:
        return context.step % 2 == 1

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float]]:
        calls, total = state or (0, torch.zeros(()))
        parameters = dict(context.model.named_parameters())
        buffers = {name: buffer.clone() for name, buffer in context.model.named_buffers()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(calls)
            outputs = torch.func.functional_call(context.model, {**parameters, **buffers}, context.inputs)
        loss = context.loss(outputs, context.targets)
        gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        norm = torch.cat([g.flatten() for g in gradient]).square().sum()
        product = torch.autograd.grad(norm, list(parameters.values()))
        total = total + sum(p.detach().abs().sum() for p in product)
        return (calls + 1, total), {"loss": float(loss.detach()), "calls": float(calls)}


@dataclass(frozen=True)
class Batches:
    """Keeps what each step trains on."""

    name: str = "batches"

    def is_due(self, context: StepContext) -> bool:  # the protocol's
        return True

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float]]:
        kept = [*(state or []), (context.inputs, context.targets)]
        return kept, {"size": len(context.targets), "last": context.last_of_epoch}


@EVERY_OPTIMIZER
def test_a_run_stored_halfway_ends_with_the_same_bits(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))
    whole, history = advance(start(plan), plan, 2)

    half, first = advance(RunState.from_bytes(start(plan).to_bytes()), plan, 1)
    end, second = advance(RunState.from_bytes(half.to_bytes()), plan, 2)

    assert cases.bits(end) == cases.bits(whole)
    assert cases.rung_bits(first, second) == cases.rung_bits(history)


@EVERY_OPTIMIZER
def test_a_stored_state_holds_nothing_but_tensors_and_plain_values(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))
    state, _ = advance(start(plan), plan, 1)

    content = torch.load(io.BytesIO(state.to_bytes()), weights_only=True)

    assert cases.bits(content) == cases.bits(state)


@ONE_OF_EACH_KIND
def test_advance_does_not_modify_its_state(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))
    state, _ = advance(start(plan), plan, 1, [Reader()])
    before = cases.bits(state)

    advance(state, plan, 2, [Reader()])

    assert cases.bits(state) == before


@ONE_OF_EACH_KIND
def test_the_same_arguments_give_the_same_bits_whatever_the_global_generators(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one, first = advance(start(plan), plan, 2)
        torch.manual_seed(2)
        other, second = advance(start(plan), plan, 2)

    assert cases.bits(one) == cases.bits(other)
    assert cases.rung_bits(first) == cases.rung_bits(second)


@pytest.mark.parametrize("fails", [False, True])
def test_generators_threads_and_grad_mode_are_restored_even_if_the_model_raises(fails: bool) -> None:
    plan = cases.plan(model="net.py:narrow" if fails else "net.py:make")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.set_num_threads(3)
        torch.rand(7)
        found = torch.get_rng_state()
        try:
            if fails:
                with pytest.raises(RuntimeError, match="channels"):
                    advance(start(plan), plan, 1)
            else:
                advance(start(plan), plan, 2)

            assert torch.equal(torch.get_rng_state(), found)
            assert torch.get_num_threads() == 3
            assert not torch.is_grad_enabled()
        finally:
            torch.set_num_threads(threads)


def test_gradient_descent_equals_a_plain_loop() -> None:
    plan = cases.plan()
    data = load(plan.dataset)

    state, history = advance(start(plan), plan, 2)

    loop = plain_loop(start(plan), plan)
    heldout = loop.model.eval()(data.test_x / 255)
    last = history.epochs[-1]
    assert [record.train_loss for record in history.epochs] == pytest.approx(loop.losses, rel=1e-5)
    assert [record.train_accuracy for record in history.epochs] == loop.accuracies
    assert last.heldout_loss == pytest.approx(functional.cross_entropy(heldout, data.test_y).item(), rel=1e-5)
    assert last.heldout_accuracy == (heldout.argmax(1) == data.test_y).double().mean().item()
    assert history.predicted is not None
    assert history.predicted == tuple(heldout.argmax(1).tolist())
    torch.testing.assert_close(state.model, dict(loop.model.state_dict()))


def test_the_gradient_norm_is_that_of_grad_before_the_last_step_dropout_included() -> None:
    plan = cases.plan()

    _, history = advance(start(plan), plan, 2)

    assert history.epochs[-1].gradient_norm == pytest.approx(plain_loop(start(plan), plan).norm, rel=1e-5)


def test_the_sweep_equals_one_pass_over_all_images_in_double_precision() -> None:
    plan = cases.plan()
    data = load(plan.dataset)

    state, history = advance(start(plan), plan, 2)

    model = call(plan.model)
    model.load_state_dict(state.model)
    outputs = model.double().eval()(data.train_x.double() / 255)
    loss = functional.cross_entropy(outputs, data.train_y)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    without, swept = history.epochs
    assert (without.exact_loss, without.exact_accuracy, without.full_gradient_norm) == (None, None, None)
    assert swept.exact_loss == pytest.approx(loss.item(), rel=1e-5)
    assert swept.exact_accuracy == (outputs.argmax(1) == data.train_y).double().mean().item()
    norm = torch.cat([g.flatten() for g in gradient]).norm().item()
    assert swept.full_gradient_norm == pytest.approx(norm, rel=1e-5)


@ONE_OF_EACH_KIND
def test_a_probe_that_reads_everything_does_not_change_the_run(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))
    alone, history = advance(start(plan), plan, 2)

    watched, seen = advance(start(plan), plan, 2, [Reader()])

    assert cases.bits(replace(watched, probes={})) == cases.bits(alone)
    assert cases.timeless(seen.epochs) == cases.timeless(history.epochs)


def test_a_probe_observes_its_steps_and_its_state_is_part_of_the_run_state() -> None:
    plan = cases.plan()
    whole, history = advance(start(plan), plan, 2, [Reader()])

    half, first = advance(start(plan), plan, 1, [Reader()])
    end, second = advance(RunState.from_bytes(half.to_bytes()), plan, 2, [Reader()])

    assert [(seen.probe, seen.step) for seen in history.observations] == [
        ("reader", step) for step in (1, 3, 5, 7)
    ]
    assert [seen.values["calls"] for seen in history.observations] == [0, 1, 2, 3]
    assert cases.bits(end.probes["reader"]) == cases.bits(whole.probes["reader"])
    assert cases.rung_bits(first, second) == cases.rung_bits(history)


@pytest.mark.parametrize("method", ["is_due", "observe"])
@ONE_OF_EACH_KIND
def test_a_probe_that_raises_observes_no_more_and_the_run_goes_on_as_without_it(
    space: Space, method: str
) -> None:
    class Failing(Reader):
        def fail(self, context: StepContext) -> None:
            if context.step >= 3:
                raise MemoryError("no room\nfor it")

        def is_due(self, context: StepContext) -> bool:
            if method == "is_due":
                self.fail(context)
            return super().is_due(context)

        def observe(self, context: StepContext, state: Any) -> Any:
            if method == "observe":
                self.fail(context)
            return super().observe(context, state)

    plan = cases.plan(method=cases.method(space))
    alone, history = advance(start(plan), plan, 2)

    half, first = advance(start(plan), plan, 1, [Failing()])
    end, second = advance(RunState.from_bytes(half.to_bytes()), plan, 2, [Failing()])

    assert cases.bits(replace(end, probes={})) == cases.bits(alone)
    assert cases.timeless((*first.epochs, *second.epochs)) == cases.timeless(history.epochs)
    seen = (*first.observations, *second.observations)
    assert [(one.step, one.problem) for one in seen] == [(1, ""), (3, "MemoryError: no room")]


def test_the_state_of_an_absent_probe_is_preserved() -> None:
    plan = cases.plan()
    half, _ = advance(start(plan), plan, 1, [Reader()])

    end, _ = advance(half, plan, 2)

    assert cases.bits(end.probes) == cases.bits(half.probes)


def test_every_optimizer_starts_from_the_same_weights_and_sees_the_same_batches() -> None:
    plans = [cases.plan(method=cases.method(space), epochs=1) for space in cases.spaces()]

    weights = [cases.bits(start(plan).model) for plan in plans]
    batches = [cases.bits(advance(start(plan), plan, 1, [Batches()])[0].probes) for plan in plans]

    assert weights == [weights[0]] * len(plans)
    assert batches == [batches[0]] * len(plans)


def test_another_seed_has_other_weights_and_other_batches() -> None:
    one, other = cases.plan(epochs=1), cases.plan(epochs=1, seed=1)

    assert cases.bits(start(one).model) != cases.bits(start(other).model)
    seen = [advance(start(plan), plan, 1, [Batches()])[0].probes["batches"] for plan in (one, other)]
    assert not torch.equal(seen[0][0][0], seen[1][0][0])


def test_an_epoch_sees_each_image_once_and_its_last_batch_may_be_short() -> None:
    plan = cases.plan(epochs=1)

    state, history = advance(start(plan), plan, 1, [Batches()])

    seen: Tensor = torch.cat([images for images, _ in state.probes["batches"]])
    found = sorted(map(tuple, seen.flatten(1).tolist()))
    assert found == sorted(map(tuple, (load(plan.dataset).train_x / 255).flatten(1).tolist()))
    assert [dict(each.values) for each in history.observations] == [
        {"size": size, "last": size == 8} for size in (64, 64, 64, 8)
    ]
    assert (state.step, steps_per_epoch(cases.TRAIN, cases.BATCH), history.epochs[0].gradients) == (4, 4, 4)


@EVERY_OPTIMIZER
def test_the_work_of_an_epoch_is_a_gradient_a_step_and_two_for_each_hessian_product(space: Space) -> None:
    plan = cases.plan(method=cases.method(space), epochs=1)

    _, history = advance(start(plan), plan, 1)

    assert history.epochs[0].gradient_work == 4 + 2 * 4 * space.hessian_products


def test_a_step_of_adahessian_counts_as_three_of_sgd() -> None:
    work = {}
    for name in ("sgd", "adahessian"):
        plan = cases.plan(method=cases.method(load_space(name, cases.HERE)), epochs=1)
        work[name] = advance(start(plan), plan, 1)[1].epochs[0].gradient_work

    assert work["adahessian"] == 3 * work["sgd"]


@pytest.mark.parametrize("until", [0, 3])
def test_an_epoch_that_is_past_or_beyond_the_plan_is_refused(until: int) -> None:
    plan = cases.plan()
    state, _ = advance(start(plan), plan, 1)

    with pytest.raises(ValueError, match=f"until is {until}; the run is at epoch 1 of 2"):
        advance(state, plan, until)


def test_advancing_to_the_current_epoch_changes_nothing() -> None:
    plan = cases.plan()
    state, _ = advance(start(plan), plan, 1)

    same, history = advance(state, plan, 1)

    assert cases.bits(same) == cases.bits(state)
    assert (history.epochs, history.observations, history.predicted) == ((), (), None)


def test_a_rung_without_a_state_is_rerun_from_the_start() -> None:
    plan = cases.plan()
    _, stored = run_rung(plan, None, 0, 1)

    after, end = run_rung(plan, stored, 1, 2)
    again, same = run_rung(plan, None, 1, 2)

    assert [record.epoch for record in again.epochs] == [2]
    assert cases.timeless(again.epochs) == cases.timeless(after.epochs)
    assert (again.outcome, again.predicted) == (after.outcome, after.predicted)
    assert cases.bits(RunState.from_bytes(same)) == cases.bits(RunState.from_bytes(end))


def test_only_the_last_rung_of_a_run_predicts() -> None:
    plan = cases.plan()

    first, state = run_rung(plan, None, 0, 1)
    last, _ = run_rung(plan, state, 1, 2)

    assert (first.outcome, first.predicted) == ("running", None)
    assert last.outcome == "completed"
    assert last.predicted is not None
    assert len(last.predicted) == cases.TEST


def test_lenet5_learns_mnist() -> None:
    split = Split("tuning", validation=200, size=400)
    method = cases.method(load_space("adam", cases.HERE))
    plan = cases.plan(dataset="mnist", model="lenet5", split=split, method=method, batch_size=20)

    _, history = advance(start(plan), plan, 2)

    first, last = history.epochs
    assert first.train_loss is not None
    assert last.train_loss is not None
    assert last.train_loss < first.train_loss < math.log(10) + 0.05
    assert last.heldout_accuracy > 0.5
