"""One starting row, or a block of several, over many batches, where several products at once are cheaper."""

import time
from collections.abc import Sequence

import torch
from torch.nn import functional

from curves.report import Images, Requirement, table
from curves.trained import Trained
from optstudy.curvature import Operator, hessian
from optstudy.curvature.basis import Basis
from optstudy.curvature.lanczos import Lanczos, lanczos_steps
from optstudy.curvature.rows import random_row

BATCHES, TOLERANCE, MOST, ROWS = 3, 1e-4, 200, 128
WIDTHS = (1, 2, 3)


def starts(runs: Sequence[Trained], images: Images, repeats: int) -> list[Requirement]:
    """Print products and seconds of CPU until two pairs have converged, without a check."""
    size = len(images[0]) // BATCHES
    x, y = images
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, BATCHES * size, size)]
    requirements = []
    for run in runs:
        operator = hessian(run.model, functional.cross_entropy, batches)
        spent = {width: [of_width(operator, width, seed) for seed in range(repeats)] for width in WIDTHS}
        rows = [
            [f"{width} at once", f"{mean([n for n, _ in each]):.1f}", f"{min(s for _, s in each):.2f}"]
            for width, each in spent.items()
        ]
        table(f"starts: {run.name}, {BATCHES} batches of {size} images", ("products", "s of CPU"), rows)
        one, best = (min(s for _, s in each) for each in (spent[1], spent[2] + spent[3]))
        requirements.append(
            Requirement(
                f"{run.name}: one starting row costs no more than several", f"{one / best:.2f}", one <= best
            )
        )
    return requirements


def of_width(operator: Operator, width: int, seed: int) -> tuple[int, float]:
    """Return the products of a search from so many random rows, and its seconds of CPU."""
    generator, began = torch.Generator().manual_seed(seed), time.process_time()
    if width == 1:
        lanczos = Lanczos(operator, ROWS, generator)
        products = sum(count for count, _ in lanczos_steps(lanczos, "magnitude", 2, TOLERANCE, MOST))
        return products, time.process_time() - began
    basis, block = Basis(operator, MOST), torch.empty(width, operator.dim)
    for row in block:
        random_row(row, generator)
    while True:
        count = basis.append(operator, block)
        block = basis.images[-count:].clone()
        if bool((basis.ritz("magnitude", 2).residuals <= TOLERANCE * basis.magnitude).all()):
            return basis.size, time.process_time() - began


def mean(numbers: Sequence[float]) -> float:
    """Return the mean."""
    return sum(numbers) / len(numbers)
