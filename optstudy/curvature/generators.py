"""States of random generators: of those that data may use, and of those that a model may use."""

import contextlib
import pickle
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

OWN = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


@dataclass(frozen=True)
class DataGenerators:
    """States of the generators that data may use: the global ones, and those of a DataLoader."""

    of_torch: Mapping[torch.Generator, Tensor]
    of_python: Any
    of_numpy: Any

    @classmethod
    def now(cls, data: Any) -> "DataGenerators":
        """Return the current states."""
        owners = (data, getattr(data, "sampler", None), getattr(data, "batch_sampler", None))
        own = [getattr(owner, "generator", None) for owner in owners]
        generators = dict.fromkeys(
            [torch.default_generator, *(g for g in own if isinstance(g, torch.Generator))]
        )
        return cls(
            of_torch={generator: generator.get_state() for generator in generators},
            of_python=random.getstate(),
            of_numpy=np.random.get_state(),  # noqa: NPY002  # the global generator, which data may use
        )

    def set(self) -> None:
        """Set the generators to these states."""
        for generator, state in self.of_torch.items():
            generator.set_state(state)
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)  # noqa: NPY002  # the global generator, which data may use

    @contextlib.contextmanager
    def at(self, data: Any, device: torch.device) -> Iterator[None]:
        """Set the generators to these states, and restore them and those of a device afterwards."""
        devices = [] if device.type == "cpu" else [device]
        current = DataGenerators.now(data)
        with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
            self.set()
            try:
                yield
            finally:
                current.set()


def model_state(device: torch.device, owners: Iterable[object]) -> list[bytes]:
    """Return the states of the global generators, and of those that are attributes of ``owners``."""
    tensors = [torch.get_rng_state()]
    if device.type != "cpu":
        tensors.append(torch.get_device_module(device).get_rng_state(device))
    own = [value for owner in owners for value in vars(owner).values() if isinstance(value, OWN)]
    own = [generator for generator in own if not isinstance(generator, random.SystemRandom)]  # has no state
    tensors += [generator.get_state() for generator in own if isinstance(generator, torch.Generator)]
    others = [generator for generator in own if not isinstance(generator, torch.Generator)]
    foreign = [random.getstate(), np.random.get_state(), *others]  # noqa: NPY002  # the global generator
    return [*(bytes(tensor.numpy()) for tensor in tensors), *map(pickle.dumps, foreign)]
