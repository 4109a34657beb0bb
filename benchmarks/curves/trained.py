"""The models: trained by `optstudy.training.advance`, and one that fits its sample exactly."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training import Layers

from curves.report import Images
from optstudy.records.plan import Method, Plan, Split, steps_per_epoch
from optstudy.training import RunState, StepContext, advance, sample_images, start
from optstudy.training.live import STEP_FUNCTIONS, capture, restore
from optstudy.workloads.models import LeNet5
from optstudy.workloads.splits import load_split

THREADS = 2
METHODS = {
    "SGD": Method("torch.optim.SGD", {"lr": 0.1}),
    "Adam": Method("torch.optim.Adam", {"lr": 1e-3}),
}
SAMPLES = 100
MAX_STEPS = 30_000

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """A trained run."""

    name: str
    plan: Plan
    state: RunState
    steps: int  # of full-batch descent on the sample; 0 for mini-batches of the data set

    @property
    def model(self) -> LeNet5:
        """The model, in eval mode."""
        model = LeNet5()
        model.load_state_dict(self.state.model)
        return model.eval()

    @property
    def layers(self) -> Layers:
        """The same model in plain layers."""
        model = Layers()
        model.load_state_dict(self.state.model)
        return model.eval()


def images_for_curvature(count: int = SAMPLES) -> Images:
    """Return the sample on which studies measure curvature, or a larger one."""
    images = sample_images(load_split("mnist", Split("final"))[0], count, seed=0, device="cpu")
    assert isinstance(images, tuple)
    return images


def build_plan(method: Method, epochs: int, size: int = 0) -> Plan:
    """Return the plan of a run on ``size`` images of MNIST, or on all."""
    split = Split("final", size=size)
    return Plan("mnist", split, "lenet5", "cross_entropy", method, epochs, (), 100, seed=0, threads=THREADS)


def train(name: str, epochs: int, size: int, folder: Path) -> Trained:
    """Train for some epochs, or read the state from the folder."""
    plan = build_plan(METHODS[name], epochs + 1, size)  # one more, to be tracked
    path = folder / f"{name}-{epochs}-{size}.pt"
    if not path.exists():
        state, _ = advance(start(plan), plan, until=epochs)
        path.write_bytes(state.to_bytes())
    return Trained(name, plan, RunState.from_bytes(path.read_bytes()), steps=0)


def converge(images: Images, loss: float, folder: Path) -> Trained:
    """Minimise the sample's loss by full-batch Adam until it is below ``loss``."""
    plan = build_plan(METHODS["Adam"], epochs=1, size=SAMPLES)
    path = folder / f"converged-{loss:g}.pt"
    if not path.exists():
        live, value, steps = restore(start(plan), plan), torch.inf, 0
        while value >= loss and steps < MAX_STEPS:
            value, steps = float(STEP_FUNCTIONS[""](live, *images).loss), steps + 1
        path.write_bytes(capture(live, 0, steps, {}, diverged=False).to_bytes())
    state = RunState.from_bytes(path.read_bytes())
    return Trained("converged", plan, state, steps=state.step)


@dataclass(frozen=True)
class Recorder:
    """Records the weights before each of some steps."""

    steps: range
    weights: list[Weights]
    name: str = "recorder"

    def is_due(self, context: StepContext) -> bool:
        """Whether the step is one of `steps`."""
        return context.step in self.steps

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float | str]]:
        """Copy the weights."""
        self.weights.append(copied(context.model.state_dict()))
        return state, {}


def record_trajectory(run: Trained, images: Images, last: int) -> list[Weights]:
    """Train for one more epoch, or ``last`` more steps on the sample; return the weights before the last steps."""
    if run.steps:
        return list(trajectory(run, images, last))
    size = len(load_split("mnist", run.plan.split)[0][1])
    after = run.state.step + steps_per_epoch(size, run.plan.batch_size)
    recorder = Recorder(range(after - last, after), [])
    advance(run.state, run.plan, until=run.state.epoch + 1, probes=[recorder])
    return recorder.weights


def trajectory(run: Trained, images: Images, steps: int) -> Iterator[Weights]:
    """Yield the weights before each of some more steps on the sample."""
    live = restore(run.state, run.plan)
    for _ in range(steps):
        yield copied(live.model.state_dict())
        STEP_FUNCTIONS[""](live, *images)


def short_epochs(run: Trained, steps: int, epochs: int) -> tuple[Plan, RunState]:
    """Return a plan that continues the run with epochs of a few steps, and the state."""
    plan = replace(run.plan, split=Split("final", size=100 * steps), epochs=run.state.epoch + epochs)
    return plan, run.state


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """Copy a state."""
    return {name: tensor.clone() for name, tensor in weights.items()}
