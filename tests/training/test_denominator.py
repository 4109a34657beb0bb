"""Losses of all data are averaged as if the data were one batch, or the loss is refused before a run starts."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cases
import pytest
import torch
from torch import nn
from torch.nn import functional

from optstudy.errors import UsageError
from optstudy.training import advance, rehearse, start
from optstudy.training.evaluation import EVALUATION_BATCH, evaluate, sweep
from optstudy.workloads.datasets import load
from optstudy.workloads.models import load_loss
from optstudy.workloads.user_code import call

LOSSES = """
import torch
from torch import nn
from torch.nn import functional

WEIGHT = torch.tensor([5.0, 1.0, 0.5, 2.0])

torchs = nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1)
total = nn.CrossEntropyLoss(reduction="sum")

def stated(outputs, targets):
    return functional.cross_entropy(outputs, targets, WEIGHT.to(outputs.dtype))

stated.denominator = lambda targets: WEIGHT[targets].sum()

def stated_sum(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="sum")

stated_sum.denominator = None

def ignoring(outputs, targets):
    return functional.cross_entropy(outputs, targets, ignore_index=1)

ignoring.denominator = lambda targets: (targets != 1).sum()

changed = nn.CrossEntropyLoss()
changed.forward = stated_sum
hooked = nn.CrossEntropyLoss()
hooked.register_forward_hook(lambda _, given, __: stated_sum(*given))

def mean(outputs, targets):
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1)

def weighted(outputs, targets):
    return functional.cross_entropy(outputs, targets, WEIGHT.to(outputs.dtype))

def summed(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="sum")

def misstated(outputs, targets):
    return weighted(outputs, targets)

misstated.denominator = len

def of_probabilities(outputs, targets):
    picked = -outputs.gather(1, targets[:, None]).log().flatten() * WEIGHT[targets]
    return picked.sum() / WEIGHT[targets].sum()

def noisy(outputs, targets):
    return functional.cross_entropy(outputs + torch.rand_like(outputs), targets)

def stated_noisy(outputs, targets):
    return noisy(outputs, targets)

stated_noisy.denominator = len

class Summed(nn.CrossEntropyLoss):
    def forward(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="sum")

subclass = Summed()

def probabilities():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softmax(1))
"""
RIGHT = ["torchs", "total", "stated", "stated_sum", "ignoring", "mean"]


@pytest.fixture(autouse=True, scope="module")
def losses(folder: Path) -> Iterator[None]:
    (folder / "losses.py").write_text(LOSSES)
    yield
    (folder / "losses.py").unlink()


@pytest.mark.parametrize("name", RIGHT)
def test_losses_and_gradients_of_many_batches_are_those_of_one(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(2 * EVALUATION_BATCH + 7, 1, 8, 8, generator=draws)
    y = (
        torch.randint(0, 4, (len(x),), generator=draws).sort().values
    )  # of one class in the first batch, for one
    model, loss = call("net.py:deep"), load_loss(f"losses.py:{name}")
    in_double = nn.CrossEntropyLoss(loss.weight.double(), label_smoothing=0.1) if name == "torchs" else loss  # type: ignore[attr-defined]
    truth = in_double(model.double()(x.double()), y)
    slopes = torch.autograd.grad(truth, list(model.parameters()))
    model.float()

    evaluated, swept = evaluate(model, loss, x, y)[0], sweep(model, loss, x, y)

    assert evaluated.loss == pytest.approx(truth.item(), rel=1e-5)
    assert swept.loss == pytest.approx(truth.item(), rel=1e-5)
    norm = sum(float(slope.square().sum()) for slope in slopes) ** 0.5
    assert swept.gradient_norm == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("name", RIGHT)
def test_the_running_loss_of_an_epoch_is_that_of_all_its_batches(name: str) -> None:
    plan = cases.plan(
        model="net.py:deep", loss=f"losses.py:{name}", method=cases.sgd(0.0), epochs=1, sweep_epochs=(1,)
    )

    _, rung = advance(start(plan), plan, 1)

    (record,) = rung.epochs
    assert record.train_loss == pytest.approx(record.exact_loss, rel=1e-5)


def test_a_batch_of_ignored_targets_alone_counts_nothing() -> None:
    data, model = load("data.py:load"), call("net.py:make").eval()
    targets = torch.full((2 * EVALUATION_BATCH,), -100)
    targets[EVALUATION_BATCH:] = 1
    x = data.train_x[:1].expand(len(targets), -1, -1, -1)

    evaluated = evaluate(model, functional.cross_entropy, x, targets)[0]
    swept = sweep(model, functional.cross_entropy, x, targets)
    alone = sweep(model, functional.cross_entropy, x[:1], targets[-1:])

    assert evaluated.loss == pytest.approx(alone.loss, rel=1e-6)
    assert swept.loss == pytest.approx(alone.loss, rel=1e-6)
    assert swept.gradient_norm == pytest.approx(alone.gradient_norm, rel=1e-5)


WRONG = {
    "weighted": ("net.py:make", "the loss is neither the mean nor the sum"),
    "misstated": ("net.py:make", "the denominator does not fit the loss"),
    "of_probabilities": ("losses.py:probabilities", "the loss is neither the mean nor the sum"),
    "summed": ("net.py:make", "is a sum over the examples of a batch; return the mean, or state the sum"),
    "noisy": ("net.py:make", "draws random numbers, so it cannot be asked what its mean is divided by"),
    "changed": ("net.py:make", "is a sum over the examples of a batch; return the mean, or state the sum"),
    "hooked": ("net.py:make", "is a sum over the examples of a batch; return the mean, or state the sum"),
    "subclass": ("net.py:make", "is a sum over the examples of a batch; return the mean, or state the sum"),
}


@pytest.mark.parametrize(("name", "model", "message"), [(n, *w) for n, w in WRONG.items()], ids=WRONG)
def test_a_loss_whose_denominator_is_not_known_is_refused_before_a_run(
    name: str, model: str, message: str
) -> None:
    with pytest.raises(UsageError, match=f"^loss 'losses.py:{name}'.*{re.escape(message)}"):
        rehearse(cases.plan(model=model, loss=f"losses.py:{name}"))


@pytest.mark.parametrize("name", [*RIGHT, "stated_noisy"])
def test_a_loss_whose_denominator_is_known_is_rehearsed(name: str) -> None:
    plan = replace(cases.plan(), loss=f"losses.py:{name}")

    assert rehearse(plan).step_seconds > 0
