"""A data set of your own: a function without arguments that returns a Dataset."""

import torch
from sklearn.datasets import load_digits

from optstudy import Dataset


def load() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, every fifth of them for the test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)  # (n, 1, 8, 8) in [0, 1]
    labels = torch.tensor(digits.target, dtype=torch.int64)
    test = torch.arange(len(labels)) % 5 == 0
    return Dataset(
        train_x=images[~test],
        train_y=labels[~test],
        test_x=images[test],
        test_y=labels[test],
        classes=tuple("0123456789"),
    )
