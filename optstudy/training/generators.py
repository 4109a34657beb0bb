"""The global random generators of a run: torch's, Python's and numpy's."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from optstudy.records.plan import Plan


def seed_generators(plan: Plan) -> None:
    """Seed the generators that a run draws from; `torch.manual_seed` would seed every device."""
    torch.default_generator.manual_seed(plan.seed)
    if torch.device(plan.device).type == "cuda":
        with torch.cuda.device(plan.device):
            torch.cuda.manual_seed(plan.seed)
    _seed_python_and_numpy(plan.seed)


def capture_generators(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators as tensors and plain values."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state()  # noqa: NPY002  # the generator that user code draws from
    name, keys, *rest = numpy
    return {
        **states,
        "python": [version, torch.tensor(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
    }


def restore_generators(states: Mapping[str, Any], plan: Plan) -> None:
    """Set the generators to captured states; a generator without one is seeded."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], plan.device)
    if "python" not in states:  # a state that an earlier version wrote
        _seed_python_and_numpy(plan.seed)
        return
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


@contextlib.contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Return a context that restores the generators on exit."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _seed_python_and_numpy(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
