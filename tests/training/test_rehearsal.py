"""A rehearsal finds what is wrong with a run before hours are spent on it."""

import re
from dataclasses import replace

import cases
import pytest
import torch

from optstudy.errors import UsageError
from optstudy.records.plan import Method, Plan, Trace
from optstudy.records.space import Space
from optstudy.training import check_device, rehearsal, rehearse, start

WRONG = {
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
        "the curvature of model 'net.py:once' with loss 'cross_entropy' cannot be measured: the Hessian is not",
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
