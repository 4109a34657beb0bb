"""Parts of `benchmarks/curvature.py`."""

import warnings

warnings.filterwarnings(
    "ignore", message=".*torch.jit.script", category=FutureWarning
)  # importing curvlinops
