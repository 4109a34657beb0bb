"""Independent random streams, derived from the study's seed."""

from typing import Literal

import numpy as np
import torch

_STREAMS = {"split": 1, "epoch": 2, "sample": 3}


def generator(stream: Literal["split", "epoch", "sample"], *numbers: int) -> torch.Generator:
    """Return a generator for a stream and some numbers; each of them changes the sequence.

    numpy's ``SeedSequence`` mixes them, so that seed 0 in epoch 1 and seed 1 in epoch 0 have nothing in
    common. (torch's CPU generator reads 32 bits of its seed, too few to hold the numbers side by side.)

    Args:
        stream: Purpose of the generator.
        numbers: Non-negative numbers, such as seed and epoch.
    """
    mixed = np.random.SeedSequence([_STREAMS[stream], *numbers]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))
