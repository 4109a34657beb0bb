"""Compares SGD and Adam on a small net and a small data set, in less than a minute."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from optstudy import Dataset, Study


def make() -> nn.Module:
    """Return the model, weights drawn from torch's generator, which each run has seeded."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def load() -> Dataset:
    """Return 1,797 handwritten digits of 8 by 8 pixels."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)  # (n, 1, 8, 8)
    y = torch.tensor(digits.target, dtype=torch.int64)
    return Dataset(x[:1400], y[:1400], x[1400:], y[1400:], classes=tuple("0123456789"))


# The study's workers import this file; what stands below the condition runs in the program alone.
if __name__ == "__main__":
    study = Study(
        "mine",
        model=make,
        dataset=load,
        optimizers=["sgd", "adam"],
        validation=400,
        tune_size=1000,
        batch_size=20,
        eigen_last=20,
    )
    found = study.tune(trials=4, tune_epochs=2)
    print(found["sgd"].best)
    table = study.train(seeds=3, train_epochs=3).to_pandas()
    print(table[["optimizer", "seeds", "train_accuracy", "test_accuracy"]])
