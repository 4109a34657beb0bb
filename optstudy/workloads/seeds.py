"""Independent random streams, derived from the study's seed."""

from typing import Literal

import numpy as np
import torch

_STREAMS = {"split": 1, "epoch": 2, "sample": 3}


def generator(stream: Literal["split", "epoch", "sample"], *numbers: int) -> torch.Generator:
    """Return a generator whose sequence depends on the stream and on each of the numbers.

    The numbers are mixed by numpy's ``SeedSequence``, so that seed 0 in epoch 1 and seed 1 in epoch 0 are independent.
    (torch's CPU generator uses only 32 bits of its seed, too few to concatenate the numbers.)

    Args:
        stream: Purpose of the generator.
        numbers: Non-negative numbers, such as seed and epoch.
    """
    mixed = np.random.SeedSequence([_STREAMS[stream], *numbers]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))
