"""A run keeps what its optimizer has outside of its `state_dict`, or is refused."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cases
import pytest
import torch

from optstudy.errors import UsageError
from optstudy.records.plan import Method, Plan
from optstudy.training import RunState, advance, rehearse, start

OPTIMIZERS = '''
import collections
import enum
import functools
import itertools
import math
import random

import numpy as np
import torch
from torch.optim import SGD, AdamW
from torch.optim import lr_scheduler as schedules


class Stepping(SGD):
    def __init__(self, parameters, lr=0.1, momentum=0.9):
        super().__init__(parameters, lr=lr, momentum=momentum)
        self.prepare()

    def prepare(self):
        pass

    def step(self, closure=None):
        super().step()
        self.after()

    def set_lr(self, lr):
        for group in self.param_groups:
            group["lr"] = lr


class Lambda(Stepping):
    def prepare(self):
        self.schedule = schedules.LambdaLR(self, lambda k: min(1, (k + 1) / 10))

    def after(self):
        self.schedule.step()


class Cosine(Lambda):
    def prepare(self):
        self.schedule = schedules.CosineAnnealingLR(self, 8)


class OneCycle(Lambda):
    def prepare(self):
        self.schedule = schedules.OneCycleLR(self, 0.2, total_steps=100)


class Warmup(Lambda):
    def prepare(self):
        parts = [schedules.LinearLR(self, total_iters=3), schedules.CosineAnnealingLR(self, 6)]
        self.schedule = schedules.SequentialLR(self, parts, [3])


class Several(Lambda):
    def prepare(self):
        self.by_name = {"a": [schedules.ExponentialLR(self, 0.9)], "b": (schedules.StepLR(self, 2, 0.5),)}

    def after(self):
        self.by_name["a"][0].step()
        self.by_name["b"][0].step()


class Plateau(Stepping):
    def prepare(self):
        self.schedule = schedules.ReduceLROnPlateau(self, patience=1)

    def after(self):
        self.schedule.step(1.0)


class Counting(Stepping):
    def prepare(self):
        self.steps = 0

    def after(self):
        self.steps += 1
        self.set_lr(0.1 / self.steps)


class CountingOnly(Counting):
    def after(self):
        self.steps += 1


class CountingTensor(Counting):
    def prepare(self):
        self.steps = torch.zeros((), dtype=torch.float64)

    def after(self):
        self.steps += 1
        self.set_lr(0.1 / float(self.steps))


class CountingInNumpy(Counting):
    def prepare(self):
        self.steps = np.float64(0)


class CountingInPartial(Counting):
    """Its function is made again by the constructor; its counter is not in it."""

    def prepare(self):
        self.steps = 0
        self.rate = functools.partial(math.pow, 0.9)
        self.bound = self.set_lr

    def after(self):
        self.steps += 1
        self.bound(self.rate(self.steps))


class History(Stepping):
    def prepare(self):
        self.norms, self.seen = collections.deque(maxlen=3), {1, 2}
        self.by_parity = collections.defaultdict(list)

    def after(self):
        self.norms.append(float(self.param_groups[0]["params"][0].detach().norm()))
        self.seen.add(len(self.seen))
        self.by_parity[len(self.seen) % 2].append(len(self.norms))
        self.set_lr(sum(self.norms) * 0.1 / len(self.norms) + 1e-4 * len(self.by_parity[0]))


class Drawing(Stepping):
    def prepare(self):
        self.generator = torch.Generator().manual_seed(3)

    def after(self):
        self.set_lr(float(torch.rand((), generator=self.generator)))


class Late(Stepping):
    """Makes its tensors at the first step, as many do."""

    def prepare(self):
        self.slow, self.mean = {}, None

    def after(self):
        for p in self.param_groups[0]["params"]:
            slow = self.slow.setdefault(p, p.detach().clone())
            slow.lerp_(p.detach(), 0.3)
            p.data.lerp_(slow, 0.5)
        self.mean = [p.detach().mean() for p in self.slow]


class Shared(Stepping):
    """A tensor in two places, and groups under another name."""

    def prepare(self):
        self.rates = torch.tensor([0.1, 0.2])
        self.again = [self.rates]
        self.own_groups = {"all": self.param_groups}

    def after(self):
        self.again[0].mul_(0.9)
        self.own_groups["all"][0]["lr"] = float(self.rates[0])


class Pair(torch.optim.Optimizer):
    """Matrices by one optimizer, vectors by another, as Muon is used."""

    def __init__(self, parameters, lr=0.05):
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        self.inner = [
            SGD([p for p in parameters if p.ndim > 1], lr=lr, momentum=0.9, nesterov=True),
            AdamW([p for p in parameters if p.ndim < 2], lr=lr),
        ]
        self.schedule = schedules.CosineAnnealingLR(self.inner[0], 6)

    def step(self, closure=None):
        for inner in self.inner:
            inner.step()
        self.schedule.step()


class Wrapper(torch.optim.Optimizer):
    """Lookahead: shares the groups of the inner optimizer, and has tensors of its own."""

    def __init__(self, parameters, lr=0.1):
        self.inner = AdamW(parameters, lr=lr)
        super().__init__(self.inner.param_groups, {})
        self.param_groups = self.inner.param_groups
        self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        self.steps = 0
        self.schedule = schedules.ExponentialLR(self, 0.8)

    def step(self, closure=None):
        self.inner.step()
        self.schedule.step()
        self.steps += 1
        if self.steps % 3 == 0:
            for p, slow in zip((p for group in self.param_groups for p in group["params"]), self.slow):
                slow.lerp_(p.detach(), 0.5)
                p.data.copy_(slow)


class Referring(Stepping):
    """Refers to itself, and to an inner optimizer twice."""

    def prepare(self):
        self.me = self
        self.inner = SGD(self.param_groups[0]["params"], lr=0.01, momentum=0.5)
        self.again = (self.inner, self.inner.step)

    def after(self):
        self.again[0].step()


class Mode(enum.Enum):
    WARM = 1
    MAIN = 2


class Switching(Stepping):
    """Changes its mode, its rule and which attributes it has, long after a rehearsal."""

    def prepare(self):
        self.steps, self.mode, self.rule, self.warm = 0, Mode.WARM, self.slow, True

    def slow(self):
        return 0.01

    def fast(self):
        return 0.2

    def after(self):
        self.steps += 1
        self.set_lr(self.rule() if self.mode is Mode.MAIN or hasattr(self, "warm") else 0.05)
        if self.steps == 7:
            self.rule = self.fast
        if self.steps == 9:
            self.mode = Mode.MAIN
            del self.warm


class Slots(Stepping):
    __slots__ = ("count",)

    def prepare(self):
        self.count = 0

    def after(self):
        self.count += 1
        self.set_lr(0.1 / self.count)


class Arrays(Stepping):
    """Has an array, and generators of Python and numpy."""

    def prepare(self):
        self.rates = np.array([0.1, 0.2])
        self.python, self.numpy = random.Random(1), np.random.default_rng(1)
        self.handle = self.register_step_post_hook(self.hook)

    def hook(self, *_):
        self.rates *= 0.9

    def after(self):
        self.set_lr(float(self.rates[0]) * (1 + self.python.random() + self.numpy.random()))


class ClosingOnObject(Stepping):
    def prepare(self):
        budget = Budget()
        self.rule = lambda: 0.01 * budget()

    def after(self):
        self.set_lr(self.rule())


class Hooked(Stepping):
    def prepare(self):
        budget = Budget()
        self.register_step_pre_hook(lambda *_: budget() and None)

    def after(self):
        pass


class SwitchingFunctions(Stepping):
    def prepare(self):
        self.steps = 0
        self.first, self.second = (lambda: 0.01), (lambda: 0.2)
        self.rule = self.first

    def after(self):
        self.steps += 1
        self.set_lr(self.rule())
        if self.steps == 3:
            self.rule = self.second


COUNT = [0]


class OfTheFile(Stepping):
    def after(self):
        COUNT[0] += 1
        self.set_lr(0.1 / max(1, COUNT[0] - 100))


class Budget:
    def __init__(self):
        self.left = 10

    def __call__(self):
        self.left -= 1
        return max(self.left, 1)


class Holding(Stepping):
    def prepare(self):
        self.budget = Budget()

    def after(self):
        self.set_lr(0.01 * self.budget())


class HoldingInList(Holding):
    def prepare(self):
        self.parts = {"first": [1, Budget()]}

    def after(self):
        self.set_lr(0.01 * self.parts["first"][1]())


class HoldingMethod(Holding):
    def prepare(self):
        self.budget = Budget().__call__


class Iterating(Stepping):
    def prepare(self):
        self.steps = itertools.count(1)

    def after(self):
        self.set_lr(0.1 / next(self.steps))


class Closing(Stepping):
    def prepare(self):
        steps = 0

        def rate():
            nonlocal steps
            steps += 1
            return 0.1 / steps

        self.rate = rate

    def after(self):
        self.set_lr(self.rate())


class Decay:
    """A schedule of one's own."""

    def __init__(self):
        self.steps = 0

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    def __call__(self):
        self.steps += 1
        return 0.1 / self.steps


class OwnSchedule(Stepping):
    def prepare(self):
        self.schedule = Decay()

    def after(self):
        self.set_lr(self.schedule())


class MadeLate(OwnSchedule):
    def prepare(self):
        self.schedule = None

    def after(self):
        self.schedule = self.schedule or Decay()
        self.set_lr(self.schedule())


class Identities(Stepping):
    """Keys that another process cannot know."""

    def prepare(self):
        self.steps = {}

    def after(self):
        for p in self.param_groups[0]["params"]:
            self.steps[id(p)] = self.steps.get(id(p), 0) + 1
            p.data.mul_(1 - 0.01 * self.steps[id(p)])


class OfTheClass(Stepping):
    steps = 0

    def after(self):
        type(self).steps += 1
        self.set_lr(0.1 / self.steps)


class Scale:
    def __init__(self):
        self.total = 0.0


class ObjectInState(Stepping):
    def after(self):
        for p in self.param_groups[0]["params"]:
            self.state[p].setdefault("scale", Scale()).total += 1


class Still(Stepping):
    def step(self, closure=None):
        pass


class Forgetful(Stepping):
    """Its own state_dict lacks the momentum."""

    def state_dict(self):
        return {**super().state_dict(), "state": {}}

    def after(self):
        pass
'''

KEPT = [
    "Lambda", "Cosine", "OneCycle", "Warmup", "Several", "Plateau", "Counting", "CountingTensor", "CountingInNumpy",
    "CountingInPartial", "History", "Drawing", "Late", "Shared", "Pair", "Wrapper", "Referring",
    "OwnSchedule", "Switching", "Slots", "Arrays",
]  # fmt: skip

REFUSED = {
    "Holding": "Holding.budget is an object of type Budget, which is lost between two epochs; a run keeps numbers,",
    "HoldingInList": "HoldingInList.parts['first'][1] is an object of type Budget, which is lost between two epochs",
    "HoldingMethod": "HoldingMethod.budget is an object of type Budget, which is lost between two epochs",
    "Iterating": "Iterating.steps is an object of type count, which is lost between two epochs",
    "Closing": "Closing.rate is lost between two epochs, since the constructor does not make it again as it was",
    "MadeLate": "MadeLate.schedule is lost between two epochs, since the constructor does not make it again as it was",
    "Identities": "own.py:Identities does not resume: the weights '0.weight' of a run differ 7 steps after it is",
    "ClosingOnObject": "ClosingOnObject.rule is an object of type Budget, which is lost between two epochs",
    "Hooked": "Hooked._optimizer_step_pre_hooks is an object of type Budget, which is lost between two epochs",
    "SwitchingFunctions": "SwitchingFunctions.rule is lost between two epochs, since the constructor does not make it",
    "OfTheClass": "own.OfTheClass.steps changes while a run trains, and all runs of a process share it; keep what a",
    "OfTheFile": "own.COUNT changes while a run trains, and all runs of a process share it; keep what a run needs in",
    "ObjectInState": "the state_dict of own.py:ObjectInState has an object of type Scale at ['state'][0]['scale']",
    "Still": "own.py:Still moves no weight in 14 steps; check its learning rate, and that step uses .grad",
    "Forgetful": "own.py:Forgetful does not resume: the weights '0.weight' of a run differ 7 steps after it is",
}


@pytest.fixture(scope="module", autouse=True)
def own(folder: Path) -> Iterator[None]:
    (folder / "own.py").write_text(OPTIMIZERS)
    yield
    (folder / "own.py").unlink()


def plan(name: str) -> Plan:
    return cases.plan(method=Method(f"own.py:{name}", {"lr": 0.1}), epochs=4)


@pytest.mark.parametrize("name", KEPT)
def test_a_run_stored_at_every_epoch_ends_as_one_without_a_break(name: str) -> None:
    one = plan(name)
    whole, history = advance(start(one), one, 4)

    state, rungs = start(one), []
    for epoch in range(1, 5):
        state, rung = advance(RunState.from_bytes(state.to_bytes()), one, epoch)
        rungs.append(rung)

    assert cases.bits(state) == cases.bits(whole)
    assert cases.rung_bits(*rungs) == cases.rung_bits(history)


@pytest.mark.parametrize("name", KEPT)
def test_an_optimizer_whose_attributes_are_kept_can_be_rehearsed(name: str) -> None:
    assert "7, a file and 7 more" in " ".join(rehearse(plan(name)).proofs)


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_an_optimizer_that_would_lose_its_state_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}") as raised:
        rehearse(plan(name))

    assert "\n" not in str(raised.value)


def test_a_schedule_is_followed_over_epochs() -> None:
    one = plan("Cosine")
    state = start(one)
    for epoch in (1, 2, 3):
        state, _ = advance(state, one, epoch)
        lr = 0.1 * (1 + torch.tensor(torch.pi * 4 * epoch / 8).cos()) / 2  # after 4 steps an epoch

        assert state.optimizer["param_groups"][0]["lr"] == pytest.approx(float(lr), abs=1e-7)


def test_a_state_without_attributes_is_still_read() -> None:
    one = plan("Counting")
    half, _ = advance(start(one), one, 2)
    earlier = replace(half, attributes={}, modules={}, generators={"cpu": half.generators["cpu"]})

    end, _ = advance(earlier, one, 4)

    assert end.attributes["steps"] == ["plain", 8]  # counted anew


@pytest.mark.parametrize(
    ("name", "corrected"), [("Lambda", True), ("Pair", True), ("OwnSchedule", True), ("CountingOnly", False)]
)
def test_a_run_that_earlier_versions_computed_otherwise_is_told_from_one_that_they_did_not(
    name: str, corrected: bool
) -> None:
    assert rehearse(plan(name)).corrected == corrected


def test_runs_of_packaged_optimizers_keep_their_keys() -> None:
    for space in cases.spaces():
        assert not rehearse(cases.plan(method=cases.method(space))).corrected
