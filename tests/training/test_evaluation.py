"""What is measured with the weights held fixed leaves no trace."""

import cases
import pytest
import torch
from torch.nn import functional

from optstudy.training import evaluate, sweep
from optstudy.training.evaluation import EVALUATION_BATCH
from optstudy.workloads.datasets import load
from optstudy.workloads.user_code import call


@pytest.mark.parametrize("measure", [evaluate, sweep])
def test_each_modules_mode_is_restored(measure: object) -> None:
    assert callable(measure)
    model, data = call("net.py:make"), load("data.py:load")
    model.train()
    model[1].eval()
    found = [module.training for module in model.modules()]
    before = cases.bits(model.state_dict())

    measure(model, functional.cross_entropy, data.train_x, data.train_y)

    assert [module.training for module in model.modules()] == found
    assert cases.bits(model.state_dict()) == before
    assert all(p.grad is None for p in model.parameters())


def test_modes_are_restored_when_the_model_raises() -> None:
    model, data = call("net.py:narrow"), load("data.py:load")
    model[0].eval()
    found = [module.training for module in model.modules()]

    with pytest.raises(RuntimeError, match="channels"):
        evaluate(model, functional.cross_entropy, data.test_x, data.test_y)

    assert [module.training for module in model.modules()] == found


def test_chunks_weigh_by_their_size() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(EVALUATION_BATCH + 7, 1, 8, 8, generator=draws)
    y = torch.randint(0, 4, (len(x),), generator=draws)
    model = call("net.py:make").eval()

    evaluated, predicted = evaluate(model, functional.cross_entropy, x, y)
    swept = sweep(model, functional.cross_entropy, x, y)

    outputs = model.double()(x.double()).detach()
    assert evaluated.loss == pytest.approx(functional.cross_entropy(outputs, y).item(), rel=1e-5)
    assert swept.loss == pytest.approx(evaluated.loss, rel=1e-5)
    assert evaluated.accuracy == swept.accuracy == (outputs.argmax(1) == y).double().mean().item()
    assert torch.equal(predicted, outputs.argmax(1))
