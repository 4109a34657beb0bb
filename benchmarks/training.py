"""Time an epoch of SGD on LeNet-5: optstudy, common training loops, and the lower limit.

    python benchmarks/training.py            some minutes: repeats of 100 steps, scaled to an epoch
    python benchmarks/training.py --full     whole epochs
    python benchmarks/training.py --part allocator   steps in two workers at once, with and without glibc's defaults

60,000 images of MNIST at 32 by 32, batch size 100, learning rate 0.1, on two threads and on one. Every row runs in its
own process; the rows are timed alternately, one at a time, and the minimum of a row's times counts, since other
programs can only slow it down. The exit status is 1 if the losses of optstudy and of the plain loop differ by more than
rounding, or if the allocator changes a bit of the weights.
"""

import argparse
import gzip
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision import transforms

import optstudy.workloads
from optstudy.execution.flows import Task, run_all
from optstudy.execution.local import ALLOCATOR, LocalWorkers, environments
from optstudy.records.plan import Method, Plan, Split
from optstudy.training import StepContext, advance, run_rung, start
from optstudy.workloads.batches import batches, prepare
from optstudy.workloads.mnist import parse_idx
from optstudy.workloads.models import LeNet5
from optstudy.workloads.splits import load_split

STEPS_IN_EPOCH = 600
BATCH = 100
LEARNING_RATE = 0.1
TURNS = 6  # the first warms up
WANTED = {"loader": 3.5, "plain": 1.4}  # required speed-ups of optstudy, on two threads
TOLERANCE = 1e-4

Turn = Callable[[], float]  # runs the steps of one turn, and returns the seconds they took

SGD = Method("torch.optim.SGD", {"lr": LEARNING_RATE})
ADAHESSIAN = Method(
    "optstudy.optimizers.AdaHessian",
    {"lr": 0.1, "betas": (0.1, 0.1), "eps": 1e-4, "weight_decay": 1e-4, "hessian_power": 0.5},
    needs="closure",
    seeded=True,
    hessian_products=1,
)


class Layers(nn.Module):
    """LeNet-5 in plain layers, with the initial weights of `LeNet5`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, 10)
        self.pool = nn.AvgPool2d(2)
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, ``(n, 10)``."""
        x = self.pool(self.tanh(self.conv1(x)))
        x = self.pool(self.tanh(self.conv2(x)))
        x = self.tanh(self.conv3(x)).flatten(1)
        logits: Tensor = self.fc2(self.tanh(self.fc1(x)))
        return logits


class Digits(torchvision.datasets.MNIST):  # type: ignore[misc]  # torchvision has no types
    """torchvision's MNIST, which converts each digit to a PIL image and transforms it, from the packaged files."""

    def __init__(self) -> None:
        folder = Path(optstudy.workloads.__file__).parent
        packed = (folder / f"train-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1"))
        parsed = (parse_idx(gzip.decompress(path.read_bytes())) for path in packed)
        self.data, self.targets = (torch.from_numpy(array.copy()) for array in parsed)
        self.transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
        self.target_transform = None


def eager_loop(model: nn.Module, source: Iterator[tuple[Tensor, Tensor]], steps: int) -> Turn:
    """Train with a plain PyTorch loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def turn() -> float:
        began = time.perf_counter()
        for images, labels in islice(source, steps):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        return time.perf_counter() - began

    return turn


def from_loader() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of a DataLoader, epoch after epoch."""
    loader: Iterable[tuple[Tensor, Tensor]] = torch.utils.data.DataLoader(
        Digits(), batch_size=BATCH, shuffle=True
    )
    while True:
        yield from loader


def from_memory() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of tensors, epoch after epoch."""
    (x, y), _ = load_split("mnist", Split("final"))
    while True:
        for chosen in torch.split(torch.randperm(len(y)), BATCH):
            yield x[chosen].float() / 255, y[chosen]


def ours(method: Method, steps: int, threads: int) -> Turn:
    """Train with optstudy; a turn is an epoch over as many images as the steps take."""
    plan = build_plan(method, steps, epochs=TURNS, threads=threads)
    state = start(plan)

    def turn() -> float:
        nonlocal state
        state, history = advance(state, plan, until=state.epoch + 1)
        return history.epochs[-1].seconds

    return turn


def build_plan(method: Method, steps: int, epochs: int, threads: int) -> Plan:
    """Return the plan of a run over as many images as the steps take."""
    split = Split("final", size=steps * BATCH)
    return Plan("mnist", split, "lenet5", "cross_entropy", method, epochs, (), BATCH, seed=0, threads=threads)


def compiled(model: nn.Module) -> nn.Module:
    """Compile the model's forward and backward pass."""
    model.compile(dynamic=False)
    return model


def floor(steps: int) -> Turn:
    """Estimate the time of the steps' floating-point operations at the best rate of a matrix product."""

    def turn() -> float:
        return steps / STEPS_IN_EPOCH * epoch_operations() / max(map(product_rate, (512, 1024, 2048)))

    return turn


def epoch_operations() -> int:
    """Count the multiplications and additions of an epoch in convolutions and linear layers."""
    outputs = {
        "conv1": 28 * 28,
        "conv2": 10 * 10,
        "conv3": 1,
        "fc1": 1,
        "fc2": 1,
    }  # output positions of each kernel
    weights = {name: weight.numel() for name, weight in LeNet5().named_parameters()}
    products = {name: positions * weights[f"{name}.weight"] for name, positions in outputs.items()}
    # Each is done three times: outputs, gradient by weights, gradient by inputs, which conv1 does not need.
    for_image = 2 * (3 * sum(products.values()) - products["conv1"])
    return STEPS_IN_EPOCH * BATCH * for_image


def product_rate(size: int) -> float:
    """Measure the operations a second of a product of two square matrices."""
    matrix, seconds = torch.randn(size, size), []
    for _ in range(5):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


ROWS: Mapping[str, tuple[str, Callable[[int, int], Turn]]] = {
    "loader": (
        "(a) DataLoader, PIL and transforms",
        lambda steps, _: eager_loop(Layers(), from_loader(), steps),
    ),
    "plain": ("(b) eager loop over tensors", lambda steps, _: eager_loop(Layers(), from_memory(), steps)),
    "plain compiled": (
        "    the same, compiled",
        lambda steps, _: eager_loop(compiled(Layers()), from_memory(), steps),
    ),
    "ours": ("    optstudy", lambda steps, threads: ours(SGD, steps, threads)),
    "ours compiled": (
        "    its model, compiled",
        lambda steps, _: eager_loop(compiled(LeNet5()), from_memory(), steps),
    ),
    "adahessian": ("    optstudy, AdaHessian", lambda steps, threads: ours(ADAHESSIAN, steps, threads)),
    "floor": ("(c) matrix products alone", lambda steps, _: floor(steps)),
}


def serve(row: str, steps: int, threads: int, pipe: "Connection[Any, Any]") -> None:
    """Run turns in this process: one for each message, until a false one."""
    torch.set_num_threads(threads)
    turn = ROWS[row][1](steps, threads)
    while pipe.recv():
        pipe.send(turn())


def measure(steps: int, threads: int, turns: int) -> dict[str, float]:
    """Time all rows in turns; return the seconds of an epoch by row."""
    spawn = multiprocessing.get_context("spawn")
    rows = [row for row in ROWS if "compiled" not in row or shutil.which("g++")]
    pipes = {}
    for row in rows:
        pipes[row], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(row, steps, threads, theirs), daemon=True).start()
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for number in range(turns):
        print(f"{threads} threads, turn {number + 1} of {turns}", file=sys.stderr)
        for row, pipe in pipes.items():
            pipe.send(True)
            seconds[row].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {row: min(taken[1:]) * STEPS_IN_EPOCH / steps for row, taken in seconds.items()}


def show(threads: int, seconds: Mapping[str, float]) -> None:
    """Print the rows measured on a number of threads."""
    print(f"\n{f'{threads} thread' + 's' * (threads > 1):38} s/epoch   x (b)   x floor")
    for row, taken in seconds.items():
        print(
            f"{ROWS[row][0]:38} {taken:7.2f} {taken / seconds['plain']:7.2f} {taken / seconds['floor']:9.1f}"
        )
    rate = epoch_operations() / seconds["floor"] / 1e9
    print(f"floor: {epoch_operations() / 1e9:.0f} GFLOP at {rate:.0f} GFLOP/s")
    print(f"a step of AdaHessian costs {seconds['adahessian'] / seconds['ours']:.1f} of SGD")
    for row, wanted in WANTED.items():
        times = seconds[row] / seconds["ours"]
        print(f"optstudy is {times:.2f} times as fast as {ROWS[row][0][:3]}, wanted on two threads: {wanted}")


class LossProbe:
    """Records the loss before every step."""

    name = "loss"

    def is_due(self, context: StepContext) -> bool:  # noqa: ARG002  # all steps
        """Observe every step."""
        return True

    def observe(self, context: StepContext, state: Any) -> tuple[Any, Mapping[str, float]]:
        """Return the loss before the step."""
        with torch.no_grad():
            return state, {"loss": float(context.loss(context.model(context.inputs), context.targets))}


def largest_difference(steps: int = 50) -> float:
    """Train both ways from the same weights on the same batches; compare the losses of all steps."""
    plan = build_plan(SGD, steps, epochs=1, threads=1)
    _, history = advance(start(plan), plan, until=1, probes=[LossProbe()])
    train, _ = load_split(plan.dataset, plan.split)
    torch.manual_seed(plan.seed)
    model = Layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    differences = []
    for (x, y), observation in zip(
        batches(*train, BATCH, plan.seed, epoch=1), history.observations, strict=True
    ):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(prepare(x)), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        observed = observation.values["loss"]
        assert isinstance(observed, float)
        differences.append(abs(observed - loss.item()) / loss.item())
    return max(differences)


def compare_allocators(steps: int, turns: int) -> bool:
    """Print the time of a step in two concurrent workers, with glibc's defaults and with a study's settings.

    The two pairs of workers alternate, each with an epoch over as many images as the steps take and the evaluation at
    its end. The first turn warms up; its page faults are shown separately.

    Returns:
        Whether all four workers end with the same bits.
    """
    for name in ALLOCATOR:
        os.environ.pop(name, None)
    tuned = environments("cpu", threads=1, jobs=2)
    default = [{name: value for name, value in one.items() if name not in ALLOCATOR} for one in tuned]
    plan = build_plan(SGD, steps, epochs=turns, threads=1)
    rows: dict[str, list[tuple[float, ...]]] = {"glibc's defaults": [], "a study's workers": []}
    states: dict[str, list[bytes | None]] = {name: [None, None] for name in rows}
    with LocalWorkers(default) as one, LocalWorkers(tuned) as other:
        for turn in range(turns):
            print(f"allocator, turn {turn + 1} of {turns}", file=sys.stderr)
            for name, workers in zip(rows, (one, other), strict=True):
                before = resource_use(workers)
                tasks = [Task(run_rung, (plan, state, turn, turn + 1)) for state in states[name]]
                trained = run_all(tasks, workers)
                spent = [
                    (now - then) / (2 * steps)
                    for now, then in zip(resource_use(workers), before, strict=True)
                ]
                rows[name].append(
                    (statistics.mean(rung.epochs[-1].seconds for rung, _ in trained) / steps, *spent)
                )
                states[name] = [state for _, state in trained]
    print(
        f"\n{'two workers at once, 1 thread each':36} ms/step   CPU ms/step   page faults/step (first turn)"
    )
    medians = {
        name: [statistics.median(column) for column in zip(*taken[1:], strict=True)]
        for name, taken in rows.items()
    }
    for name, (wall, cpu, faults) in medians.items():
        print(f"{name:36} {1e3 * wall:7.2f} {1e3 * cpu:13.2f} {faults:18.1f} ({rows[name][0][2]:.0f})")
    plain, ours = medians.values()
    equal = len({state for some in states.values() for state in some}) == 1
    print(f"a step takes {ours[0] / plain[0]:.3f} of the time, {ours[1] / plain[1]:.3f} of the CPU's")
    print(f"weights and generators are {'equal to the bit' if equal else 'NOT equal'}")
    return equal


def resource_use(workers: LocalWorkers) -> tuple[float, float]:
    """Return the CPU seconds and the page faults of two workers so far."""
    usages = run_all([Task(resource.getrusage, (resource.RUSAGE_SELF,))] * 2, workers)
    return sum(one.ru_utime + one.ru_stime for one in usages), sum(one.ru_minflt for one in usages)


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="steps of a turn, 1 to 600 (default: 100)")
    parser.add_argument(
        "--full", action="store_true", help="turns of an epoch, two of each row after the first"
    )
    parser.add_argument("--part", choices=("epoch", "allocator"), default="epoch", help="part to run")
    arguments = parser.parse_args()
    if not 1 <= arguments.steps <= STEPS_IN_EPOCH:
        parser.error(f"--steps is {arguments.steps}; give 1 to {STEPS_IN_EPOCH}")
    steps, turns = (STEPS_IN_EPOCH, 3) if arguments.full else (arguments.steps, TURNS)
    cores = multiprocessing.cpu_count()
    print(f"{processor()}, {cores} cores; torch {torch.__version__}, torchvision {torchvision.__version__}")
    if arguments.part == "allocator":
        return int(not compare_allocators(steps, turns))
    difference = largest_difference()
    print(f"losses of 50 steps differ by {difference:.1e} at most between optstudy and (b), relatively")
    for threads in (2, 1):
        show(threads, measure(steps, threads, turns))
    return int(difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
