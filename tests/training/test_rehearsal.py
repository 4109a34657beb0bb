"""A rehearsal finds what is wrong with a run before hours are spent on it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cases
import pytest
import torch

from optstudy.errors import UsageError
from optstudy.optimizers import load_space
from optstudy.records.plan import Method, Plan, Split, Trace
from optstudy.records.space import Space
from optstudy.training import RunState, advance, check_device, rehearsal, rehearse, start

ADAHESSIAN = cases.method(load_space("adahessian", cases.HERE))

PARTS = '''
import random

import numpy as np
import torch
from torch import nn

class Unequal(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 4), nn.Linear(64, 4)

    def forward(self, x):
        h = x.flatten(1)
        return (self.a(h), self.b(h)) if self.training else self.a(h)

def normalised():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))

def infinite(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets) / 0.0

def in_float32(outputs, targets):
    return nn.functional.nll_loss(outputs @ torch.eye(4) - outputs.logsumexp(1, keepdim=True), targets)

weighted_classes = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))

class Drawing(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.linear, self.draw = nn.Linear(64, 4), draw

    def forward(self, x):
        out = self.linear(x.flatten(1))
        return out * (1 + self.draw()) if self.training else out

def from_python():
    return Drawing(random.random)

def from_numpy():
    return Drawing(np.random.rand)

def from_numpys_own():
    generator = np.random.default_rng(0)
    model = Drawing(None)
    model.generator = generator
    model.draw = generator.random
    return model

def from_hidden():
    return Drawing(lambda generator=np.random.default_rng(0): generator.random())

class Warming(Drawing):
    def __init__(self):
        super().__init__(None)
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return self.linear(x.flatten(1)) * min(1.0, self.calls / 10)

class Remembering(Drawing):
    """Keeps a buffer that is not persistent, a tensor, a list and a generator; what they hold matters at the end."""

    def __init__(self):
        super().__init__(None)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.register_buffer("constant", torch.ones(3), persistent=False)
        self.total, self.history, self.generator = torch.zeros(()), [], np.random.default_rng(0)

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.total = self.total + 1
            self.history.append(len(self.history))
        late = self.calls > 4 and self.total > 4 and len(self.history) > 4
        scale = self.generator.random() if self.training else 0.0
        return self.linear(x.flatten(1)) * ((0.1 + scale) if late else 1.0)

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(4)

class Extra(Drawing):
    def __init__(self):
        super().__init__(None)

    def forward(self, x):
        return self.linear(x.flatten(1))

    def get_extra_state(self):
        return {"object": random}

    def set_extra_state(self, state):
        pass

class Alternating(Drawing):
    def __init__(self):
        super().__init__(None)
        self.signs = [1.0]

    def forward(self, x):
        self.signs.append(-self.signs[-1])
        return self.linear(x.flatten(1)) * (1.0 if self.training else self.signs[-1])

def weighted_norm():
    with __import__("warnings").catch_warnings(action="ignore"):
        layer = nn.utils.weight_norm(nn.Linear(64, 4))
    return nn.Sequential(nn.Flatten(), layer)

def seeding():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

class Picky(torch.optim.SGD):
    def __init__(self, parameters, lr, mode="a", wd=0.0):
        if lr < 1e-4:
            raise ValueError("lr is too small")
        super().__init__(parameters, lr=lr, weight_decay=wd)
        self.mode = mode

    def step(self, closure=None):
        if self.mode == "b":
            raise KeyError("b")
        super().step()

class Searching(torch.optim.Optimizer):
    """Tries three rates by the loss alone, and takes the best: one gradient and three losses a step."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        group = self.param_groups[0]
        with torch.enable_grad():
            gradients = torch.autograd.grad(closure(), group["params"])
        losses = []
        with torch.no_grad():
            before = [p.clone() for p in group["params"]]
            for scale in (0.1, 0.5, 1.0):
                for p, start, g in zip(group["params"], before, gradients):
                    p.copy_(start - scale * group["lr"] * g)
                losses.append(float(closure()))

class Repeating(torch.optim.Optimizer):
    """Calls its closure five times in a step, with a gradient and a Hessian product each."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        group = self.param_groups[0]
        for _ in range(5):
            with torch.enable_grad():
                loss = closure()
                gradients = torch.autograd.grad(loss, group["params"], create_graph=True)
                torch.autograd.grad(gradients, group["params"], [torch.ones_like(g) for g in gradients])
            with torch.no_grad():
                for p, g in zip(group["params"], gradients):
                    p.sub_(g, alpha=group["lr"])

class Decaying(torch.optim.Optimizer):
    """Expects its closure to call backward, and moves the weights all the same."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        closure()
        for p in self.param_groups[0]["params"]:
            p.data.mul_(0.999)

class Backward(torch.optim.SGD):
    """Calls backward itself, and leaves the gradients."""

    def step(self, closure):
        with torch.enable_grad():
            closure().backward()
        super().step()

class Sharp(torch.optim.Optimizer):
    """SAM as others write it: its closure is to call backward."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    def step(self, closure):
        closure()
        for p in self.param_groups[0]["params"]:
            p.data.sub_(p.grad.sign(), alpha=0.01)
'''


@pytest.fixture(scope="module", autouse=True)
def parts(folder: Path) -> Iterator[None]:
    (folder / "parts.py").write_text(PARTS)
    yield
    (folder / "parts.py").unlink()


WRONG = {
    "a last mini-batch of one": (
        cases.plan(model="parts.py:normalised", batch_size=199),
        "model 'parts.py:normalised' cannot be trained on the last mini-batch of a final run, 1 of 200 examples: ",
    ),
    "auxiliary outputs in train mode": (
        cases.plan(model="parts.py:Unequal"),
        "model 'parts.py:Unequal' returns a tuple of 2 for 64 examples of 4 classes in train mode; it must return",
    ),
    "a loss that is not finite": (
        cases.plan(loss="parts.py:infinite"),
        "loss 'parts.py:infinite' of model 'net.py:make' is inf at the initial weights, on the first mini-batch of a",
    ),
    "a loss that is fixed to float32": (
        cases.plan(loss="parts.py:in_float32", trace=Trace(samples=20, last=4)),
        "the curvature of model 'net.py:make' with loss 'parts.py:in_float32' cannot be measured: ",
    ),
    "outputs that alternate": (
        cases.plan(model="parts.py:Alternating"),
        "model 'parts.py:Alternating' gives other outputs for the same examples at the second pass, in eval mode; ",
    ),
    "a generator that is no attribute": (
        cases.plan(model="parts.py:from_hidden"),
        "model 'parts.py:from_hidden' with loss 'cross_entropy' does not resume: the weights 'linear.weight' of a",
    ),
    "parameters without a shape": (
        cases.plan(model="parts.py:Lazy"),
        "model 'parts.py:Lazy' has parameters without a shape, such as layer.weight; give the sizes of lazy modules,",
    ),
    "a state of the model that no file can hold": (
        cases.plan(model="parts.py:Extra"),
        "the state_dict of model 'parts.py:Extra' has an object of type module at ['_extra_state']['object'], which",
    ),
    "a second derivative that is wrong": (
        cases.plan(model="parts.py:weighted_norm", method=ADAHESSIAN),
        "optstudy.optimizers.AdaHessian differentiates twice, which model 'parts.py:weighted_norm' with loss",
    ),
    "a closure that is to call backward": (
        cases.plan(method=Method("torch.optim.LBFGS", {}, needs="closure")),
        'torch.optim.LBFGS moves no weight in 14 steps; with needs = "closure" the closure returns the loss and does',
    ),
    "a closure whose gradients are read": (
        cases.plan(method=Method("parts.py:Sharp", {"lr": 0.1}, needs="closure")),
        "a step of parts.py:Sharp fails at parts.py:",
    ),
    "images of another shape": (
        cases.plan(model="net.py:narrow"),
        "model 'net.py:narrow' does not accept a batch of shape (64, 1, 8, 8): ",
    ),
    "another number of classes": (
        cases.plan(model="net.py:wide"),
        "model 'net.py:wide' returns (64, 5) for 64 examples of 4 classes; it must return a tensor of shape",
    ),
    "a loss for each image": (
        cases.plan(loss="net.py:each"),
        "loss 'net.py:each' returns (64,); it must return one number, the mean over the batch",
    ),
    "a loss of other outputs": (
        cases.plan(loss="net.py:squares"),
        "loss 'net.py:squares' does not accept outputs of shape (64, 4) with labels: ",
    ),
    "a device that is not there": (
        cases.plan(device="cuda:77"),
        "device 'cuda:77' is not available; the available ones are cpu",
    ),
    "a function that cannot be differentiated twice": (
        cases.plan(model="net.py:once", trace=Trace(samples=20, last=4)),
        "the curvature of model 'net.py:once' with loss 'cross_entropy' cannot be measured: the Hessian is wrong",
    ),
    "random numbers at every call": (
        cases.plan(model="net.py:noisy", trace=Trace(samples=20, last=4)),
        "the curvature of model 'net.py:noisy' with loss 'cross_entropy' cannot be measured: the model or the loss",
    ),
    "one parameter": (
        cases.plan(model="net.py:Scaled", trace=Trace(samples=20, last=4)),
        "the curvature of model 'net.py:Scaled' with loss 'cross_entropy' cannot be measured: it has 1 parameter",
    ),
    "no parameters": (cases.plan(model="net.py:empty"), "model 'net.py:empty' has no parameter to train"),
    "arguments that the optimizer rejects": (
        cases.plan(method=Method("torch.optim.SGD", {"lr": -1.0})),
        "torch.optim.SGD rejects lr=-1.0: ",
    ),
}


@pytest.mark.parametrize(("plan", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_mismatch_of_model_data_and_loss_is_a_one_line_error(plan: Plan, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}") as raised:
        rehearse(plan)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("space", cases.spaces(), ids=lambda space: space.name)
def test_every_packaged_optimizer_can_be_rehearsed(space: Space) -> None:
    plan = cases.plan(method=cases.method(space))

    found = rehearse(plan)

    assert (found.train_images, found.heldout_images) == (cases.TRAIN, cases.TEST)
    assert found.parameters == 4 * 9 + 4 + 2 * 4 + 36 * 4 + 4
    assert found.state_bytes >= len(start(plan).to_bytes())
    assert min(found.step_seconds, found.evaluation_seconds, found.sweep_seconds) > 0


def test_a_rehearsal_restores_generators_and_threads() -> None:
    found, threads = torch.get_rng_state(), torch.get_num_threads()

    rehearse(replace(cases.plan(), threads=threads + 1))

    assert torch.equal(torch.get_rng_state(), found)
    assert torch.get_num_threads() == threads


def test_the_cpu_is_always_available() -> None:
    check_device("cpu")


@pytest.mark.parametrize("model", ["once", "noisy", "Scaled"])
def test_the_error_for_a_model_without_curvature_suggests_no_samples(model: str) -> None:
    with pytest.raises(UsageError, match="; use --samples 0 to skip it$"):
        rehearse(cases.plan(model=f"net.py:{model}", trace=Trace(samples=20, last=4)))


@pytest.mark.parametrize("model", ["once", "noisy", "Scaled"])
def test_a_model_without_curvature_is_rehearsed_if_none_is_measured(model: str) -> None:
    assert rehearse(cases.plan(model=f"net.py:{model}")).product_seconds == 0


def test_products_are_timed_for_the_whole_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    few, every = (cases.plan(trace=Trace(samples=count, last=4)) for count in (20, None))
    monkeypatch.setattr(rehearsal, "EVALUATION_BATCH", cases.TRAIN // 4)
    monkeypatch.setattr(rehearsal, "_median_seconds", lambda *_: 1.0)

    assert rehearse(few).product_seconds == 1
    assert rehearse(every).product_seconds == 4


@pytest.mark.parametrize("model", ["from_python", "from_numpy", "from_numpys_own", "Warming", "Remembering"])
def test_a_model_that_draws_from_global_generators_or_counts_is_stored_and_restored(model: str) -> None:
    plan = cases.plan(model=f"parts.py:{model}")
    whole, history = advance(start(plan), plan, 2)

    half, first = advance(start(plan), plan, 1)
    end, second = advance(RunState.from_bytes(half.to_bytes()), plan, 2)

    assert cases.bits(end) == cases.bits(whole)
    assert cases.rung_bits(first, second) == cases.rung_bits(history)
    assert rehearse(plan).proofs


def test_runs_of_two_seeds_draw_other_numbers_from_python_and_numpy() -> None:
    states = [start(cases.plan(seed=seed)).generators for seed in (0, 1)]

    assert not any(torch.equal(states[0][name][1], states[1][name][1]) for name in ("python", "numpy"))


@pytest.mark.parametrize(
    ("optimizer", "gradients", "losses", "work"),
    [("Searching", 1, 3, 1 + 3 / 3), ("Repeating", 5, 0, 5 + 2 * 5)],
)
def test_the_work_of_a_step_counts_every_pass_of_its_closure(
    optimizer: str, gradients: int, losses: int, work: float
) -> None:
    products = 5 * (optimizer == "Repeating")
    method = Method(f"parts.py:{optimizer}", {"lr": 0.1}, needs="closure", hessian_products=products)
    plan = cases.plan(method=method)

    _, rung = advance(start(plan), plan, 1)

    [epoch] = rung.epochs
    steps = 4
    assert (epoch.gradients, epoch.losses, epoch.step_count) == (gradients * steps, losses * steps, steps)
    assert epoch.gradient_work == pytest.approx(work * steps)


PICKY = Method("parts.py:Picky", {"lr": 0.1})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "lr = 1e-05, the low end of its range",
            {"lr": 1e-5},
            "parts.py:Picky rejects lr=1e-05: lr is too small",
        ),
        ("mode = 'b'", {"lr": 0.1, "mode": "b"}, "a step of parts.py:Picky fails with KeyError: 'b'"),
    ],
)
def test_every_end_of_a_range_and_every_choice_takes_a_step(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    plan = cases.plan(method=PICKY)
    variant = replace(plan, method=replace(PICKY, arguments=arguments))

    with pytest.raises(UsageError, match=f"^{re.escape(f'{name}: {message}')}$"):
        rehearse(plan, variants={"lr = 1": plan, name: variant})


def test_a_loss_that_explodes_at_the_end_of_a_range_is_no_fault() -> None:
    plan = cases.plan()
    high = replace(plan, method=Method("torch.optim.SGD", {"lr": 1e30}))

    assert "1 configurations" not in rehearse(plan, variants={"lr = 1e30": high}).proofs


def test_the_last_mini_batch_of_a_trial_is_tried_too() -> None:
    trial = cases.plan(model="parts.py:normalised", split=Split("tuning", 71), batch_size=64)
    final = replace(trial, split=cases.plan().split)

    with pytest.raises(
        UsageError, match="^model 'parts.py:normalised' cannot be trained on the last .* of a trial, 1"
    ):
        rehearse(final, trial)


def test_a_rehearsal_says_what_it_proved() -> None:
    plan = cases.plan(method=ADAHESSIAN, trace=Trace(samples=20, last=4))
    trial = replace(plan, split=Split("tuning", 50), trace=None)

    loss, *others = rehearse(plan, trial, {"lr = 1": plan}).proofs
    assert re.fullmatch(r"the loss is finite at the initial weights \(\d\.\d+\)", loss)
    assert others == [
        (
            "it trains on the first and the last mini-batch of a final run (64 and 8 of 200 examples) and of a trial"
            " (64 and 22 of 150 examples)"
        ),
        "the weights move, and 14 steps give the same bits as 7, a file and 7 more",
        "a second pass over the data gives the same outputs",
        "a step succeeds at each end of a range and with each choice, 1 configurations",
        "its second derivative is symmetric",
        "a Hessian product can be computed in the model's precision and in float64",
    ]


def test_a_module_with_a_wrong_second_derivative_is_named_for_an_optimizer_that_uses_it() -> None:
    with pytest.raises(UsageError, match="weight_norm"):
        rehearse(cases.plan(model="parts.py:weighted_norm", method=ADAHESSIAN))

    assert rehearse(cases.plan(model="parts.py:weighted_norm")).proofs


def test_a_mini_batch_of_one_is_refused_with_what_would_be_right() -> None:
    plan = cases.plan(model="parts.py:normalised", batch_size=199)

    with pytest.raises(UsageError, match="; use --set batch_size=198, or --set train_size=199$"):
        rehearse(plan)


def test_a_model_that_seeds_itself_is_noticed() -> None:
    assert rehearse(cases.plan()).remarks == ()

    [remark] = rehearse(cases.plan(model="parts.py:seeding")).remarks
    assert remark.startswith(
        "model 'parts.py:seeding' starts from the same weights whatever the seed, so that seeds"
    )


def test_hessian_products_that_are_not_declared_are_noticed() -> None:
    declared = Method("parts.py:Repeating", {"lr": 0.1}, needs="closure", hessian_products=5)
    assert rehearse(cases.plan(method=declared)).remarks == ()

    [remark] = rehearse(cases.plan(method=replace(declared, hessian_products=0))).remarks
    assert remark.startswith(
        "parts.py:Repeating keeps the graph of its gradients, as Hessian products need, but its"
    )


@pytest.mark.parametrize(
    ("changes", "corrected"),
    [
        ({}, False),
        ({"model": "parts.py:from_python"}, True),
        ({"model": "parts.py:Warming"}, True),
        ({"method": Method("parts.py:Repeating", {"lr": 0.1}, needs="closure", hessian_products=5)}, True),
        ({"loss": "parts.py:weighted_classes"}, True),
    ],
)
def test_a_run_whose_numbers_an_earlier_version_got_wrong_is_told(
    changes: dict[str, Any], corrected: bool
) -> None:
    assert rehearse(cases.plan(**changes)).corrected == corrected


def test_training_without_gradients_is_noticed() -> None:
    method = Method("parts.py:Decaying", {"lr": 0.1}, needs="closure")

    [remark] = rehearse(cases.plan(method=method)).remarks

    assert remark.startswith(
        "parts.py:Decaying computes no gradient of the losses that its closure returns; a closure"
    )


def test_weights_that_are_not_finite_are_noticed() -> None:
    [remark] = rehearse(cases.plan(method=Method("torch.optim.SGD", {"lr": 1e30}))).remarks

    assert remark.startswith(
        "the weights are not finite after 14 steps with the default values of torch.optim.SGD"
    )


def test_an_optimizer_that_calls_backward_itself_trains_as_one_whose_gradients_are_given() -> None:
    own = cases.plan(method=Method("parts.py:Backward", {"lr": 0.1}, needs="closure"))
    plain = cases.plan(method=Method("torch.optim.SGD", {"lr": 0.1}))

    assert rehearse(own).remarks == ()
    ends = [advance(start(plan), plan, 2)[0].model for plan in (own, plain)]
    assert cases.bits(ends[0]) == cases.bits(ends[1])
