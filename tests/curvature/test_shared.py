"""Parameters that are not selected are not copied, and never changed or used once they have changed."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional

from optstudy.curvature import hessian, objective, top_eigenpairs

X, Y = oracles.examples()
LOSS = functional.cross_entropy


def frozen(model: nn.Sequential) -> nn.Sequential:
    model[0].requires_grad_(False)
    return model


def shares(model: nn.Module, name: str, **options: object) -> bool:
    held = objective(model, LOSS, (X, Y), **options).tensors[name]  # type: ignore[arg-type]
    return held.data_ptr() == model.get_parameter(name).data_ptr()


def test_frozen_parameters_are_shared_in_eval_mode_only() -> None:
    model = frozen(oracles.net(3, 5, 4))

    assert not shares(model.train(), "0.weight")
    assert shares(model.eval(), "0.weight")
    assert not shares(model, "2.weight")
    assert not shares(model, "2.weight", parameters="2.bias")  # training may change it
    assert not shares(model, "0.weight", dtype=torch.float64)
    model[2].train()
    assert not shares(model, "0.weight")


@pytest.mark.parametrize("sizes", [(13,), (6, 7)], ids=["one", "several"])
def test_an_operator_whose_frozen_parameters_have_changed_is_refused(sizes: tuple[int, ...]) -> None:
    model = frozen(oracles.net(3, 5, 4)).eval()
    operator = hessian(model, LOSS, oracles.chunks((X, Y), *sizes))
    operator @ torch.ones(24)

    model.load_state_dict(oracles.net(3, 5, 4).state_dict())

    with pytest.raises(ValueError, match=r"0.weight has changed since curvature was asked for.*ask again$"):
        operator @ torch.ones(24)
    assert operator.in_dtype is not None
    with pytest.raises(ValueError, match=r"0.weight has changed"):
        operator.in_dtype(torch.float64)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
def test_training_with_any_optimizer_does_not_affect_an_operator_of_a_part(options: Any) -> None:
    model = frozen(oracles.net(3, 5, 4)).eval()
    truth = oracles.dense_hessian(model, LOSS, (X, Y))[:20, :20]
    operator = hessian(model, LOSS, oracles.chunks((X, Y), 6, 7), parameters="2.weight")
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, **options)
    torch.autograd.backward(LOSS(model(X), Y))

    optimizer.step()

    assert torch.allclose(oracles.as_matrix(operator), truth, rtol=1e-4, atol=1e-6)


def test_a_change_that_torch_does_not_count_is_found_at_the_end() -> None:
    model = frozen(oracles.net(3, 5, 4)).eval()
    operator = hessian(model, LOSS, (X, Y), parameters="2.*")
    model.get_parameter("0.weight").data.add_(1)

    with pytest.raises(ValueError, match="returns another value at a later call"):
        top_eigenpairs(operator)


def test_selected_parameters_may_be_trained_on_and_others_moved() -> None:
    model = frozen(oracles.net(3, 5, 4)).eval()
    truth = oracles.dense_hessian(model, LOSS, (X, Y))
    operator = hessian(model, LOSS, (X, Y), dtype=torch.float32)
    torch.autograd.backward(LOSS(model(X), Y))
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model.double()

    model.float()

    assert operator.in_dtype is not None
    assert oracles.near(oracles.as_matrix(operator.in_dtype(torch.float64)), truth)


@pytest.mark.parametrize("make", [frozen, lambda model: model], ids=["frozen", "trainable"])
def test_the_hessian_of_a_part_is_its_block_and_leaves_the_rest(
    make: Callable[[nn.Sequential], nn.Sequential],
) -> None:
    model = oracles.net(3, 5, 4)
    truth = oracles.dense_hessian(model, LOSS, (X, Y))[20:, 20:]
    model = make(model).eval()
    before = oracles.snapshot(model)

    pairs = top_eigenpairs(hessian(model, LOSS, (X, Y), parameters="2.*"), k=2)

    assert pairs.values.tolist() == pytest.approx(oracles.by_magnitude(truth)[:2].tolist(), abs=1e-6)
    assert oracles.same(before, oracles.snapshot(model))


MEASURE = """
import resource, sys, torch
from torch import nn
from torch.nn import functional
from optstudy.curvature import hessian

torch.set_num_threads(1)
body = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(30)))  # 120 MB
model = nn.Sequential(body, nn.Linear(1000, 3)).eval()
body.requires_grad_(False)
batch = torch.randn(4, 1000), torch.tensor([0, 1, 2, 0])
with torch.no_grad():
    model(batch[0])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
operator = hessian(model, functional.cross_entropy, batch)
operator @ torch.ones(operator.dim)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_frozen_body_takes_no_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env={**os.environ}
    )

    assert int(done.stdout) < 40_000  # KiB; a copy would be 120,000
