"""Training as a value: RunState, advance, evaluate and the Probe protocol."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of training left behind. A number that is not finite is None."""

    epoch: int  # counted from 1
    train_loss: float | None  # mean over the epoch's batches, while the weights moved
    train_accuracy: float | None  # fraction, likewise
    heldout_loss: float | None
    heldout_accuracy: float  # fraction
    gradient_norm: float | None  # Euclidean norm of the last mini-batch's gradient
    seconds: float  # training alone
    finished_at: float  # Unix time
    gradients: int  # mini-batch gradients spent so far in this epoch
    hessian_products: int
    exact_loss: float | None = None  # over the whole training set, weights fixed; None where no sweep was due
    exact_accuracy: float | None = None
    full_gradient_norm: float | None = None
