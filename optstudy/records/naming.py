"""How optimizers, configurations and runs are named and ordered."""

from collections.abc import Sequence

PAPER = {  # Table I: train and test accuracy as fractions, in the paper's order, which ours keeps
    "sgd": (0.9989, 0.9893),
    "adagrad": (0.9999, 0.9837),
    "adam": (0.9996, 0.9895),
    "adahessian": (0.9999, 0.9910),
}


CONFIGS = ("best", "paper", "default")  # the order of an optimizer's rows; other arms follow by name


def order_of(optimizer: str, config: str = "best") -> tuple[int, str, int, str]:
    """Return by what a study's rows are sorted: the paper's optimizers, then others by name; likewise configs."""
    return index_of(tuple(PAPER), optimizer), optimizer, index_of(CONFIGS, config), config


def index_of(known: Sequence[str], name: str) -> int:
    """Return where a name stands among those that are known; any other stands after them."""
    return known.index(name) if name in known else len(known)


def final_name(optimizer: str, config: str, seed: int) -> str:
    """The name of a final run inside its study."""
    return f"{optimizer}/seed-{seed}" if config == "best" else f"{optimizer}/{config}/seed-{seed}"
