"""A run is computed as its plan says, and whoever asked finds torch as it was."""

import contextlib
import dataclasses
import os
import subprocess
import sys

import pytest
import torch

from optstudy.records.plan import Method, Plan, Split
from optstudy.training import advance, machine, numerics, start

PLAN = Plan(
    dataset="mnist",
    split=Split("final", 0, 500),
    model="lenet5",
    loss="cross_entropy",
    method=Method("torch.optim.SGD", {"lr": 0.1, "momentum": 0.9}),
    epochs=2,
    sweep_epochs=(2,),
    batch_size=100,
    seed=0,
)
DETERMINISTIC = dataclasses.replace(PLAN, deterministic=True)


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]  # torch's types do not know of it
    )


def put_without_order() -> None:
    """Write two values to one place, which torch does in no fixed order."""
    torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_a_deterministic_plan_raises_for_a_nondeterministic_operation() -> None:
    with numerics(PLAN):
        put_without_order()

    with numerics(DETERMINISTIC), pytest.raises(RuntimeError, match="deterministic"):
        put_without_order()


def test_threads_and_flags_are_restored_even_after_an_error() -> None:
    before = settings()
    threads = dataclasses.replace(DETERMINISTIC, threads=torch.get_num_threads() + 1)

    with contextlib.suppress(ZeroDivisionError), numerics(threads):
        inside = settings()
        raise ZeroDivisionError

    assert inside == (threads.threads, True, False, False, "ieee", "ieee")
    assert settings() == before


def test_on_a_cpu_the_flag_changes_no_bit() -> None:
    (state, history), (plain, plain_history) = (
        advance(start(plan), plan, 2) for plan in (DETERMINISTIC, PLAN)
    )

    assert [record.train_loss for record in history.epochs] == [
        record.train_loss for record in plain_history.epochs
    ]
    assert all(torch.equal(state.model[name], plain.model[name]) for name in plain.model)


def test_the_machine_describes_what_the_bits_depend_on() -> None:
    found, flagged = machine(dataclasses.replace(PLAN, threads=3)), machine(DETERMINISTIC)

    assert found["device"] == "cpu"
    assert found["threads"] == "3"
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["processor"]
    assert found["flags"].startswith("not deterministic; ")
    assert flagged["flags"] == "deterministic; cuDNN's choice fixed; float32 products ieee, convolutions ieee"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_deterministic_runs_on_a_gpu_are_the_same_to_the_bit() -> None:
    program = (
        "import sys, hashlib; sys.path.insert(0, 'tests/training')\n"
        "from dataclasses import replace\n"
        "from test_numerics import DETERMINISTIC\n"
        "from optstudy.training import advance, start\n"
        "plan = replace(DETERMINISTIC, device='cuda')\n"
        "state, _ = advance(start(plan), plan, 2)\n"
        "print(hashlib.sha256(b''.join(t.numpy().tobytes() for t in state.model.values())).hexdigest())"
    )
    told = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    first, second = (
        subprocess.run(
            [sys.executable, "-c", program], env=told, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )

    assert first == second != ""
