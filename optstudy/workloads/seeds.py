"""One random stream for each purpose, from the study's seed."""

from typing import Literal

import numpy as np
import torch

_STREAMS = {"split": 1, "epoch": 2, "sample": 3}


def generator(stream: Literal["split", "epoch", "sample"], *numbers: int) -> torch.Generator:
    """Return a generator of its own for a purpose and some numbers, all of which change the stream.

    numpy's ``SeedSequence`` mixes them, so that seed 0 in epoch 1 and seed 1 in epoch 0 have nothing in
    common. (torch's CPU generator reads 32 bits of its seed, too few to hold the numbers side by side.)

    Args:
        stream: What it is for.
        numbers: Such as seed and epoch, none negative.
    """
    mixed = np.random.SeedSequence([_STREAMS[stream], *numbers]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))
