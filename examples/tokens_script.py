"""The Hessian of a loss over tokens, on batches whose sequences differ in length."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import top_eigenpairs

PADDING, WORDS = 0, 7


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the tokens that are not padding."""
    return cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=PADDING)


def count_tokens(targets: Tensor) -> Tensor:
    """Return the number of tokens of a batch."""
    return (targets != PADDING).sum()


torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(WORDS, 5), nn.Tanh(), nn.Linear(5, WORDS))
batches = []
for length in (9, 4):
    tokens = torch.randint(1, WORDS, (20, length + 1))
    tokens[10:, length // 2 :] = PADDING
    batches.append((tokens[:, :-1], tokens[:, 1:]))

pairs = top_eigenpairs(model, token_loss, batches, k=2, denominator=count_tokens)
print(f"largest eigenvalues {pairs.values[0]:.4f} and {pairs.values[1]:.4f}: {pairs.ratio.verdict}")
