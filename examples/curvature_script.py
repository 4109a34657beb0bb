"""Certified top eigenvalues of the Hessian of any torch model, and what is around its minimum."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import hessian, loss_landscape, spectral_density, top_eigenpairs, trace

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
inputs, targets = torch.randn(200, 8), torch.randint(0, 3, (200,))

pairs = top_eigenpairs(model, cross_entropy, (inputs, targets), k=2)
for value, residual in zip(pairs.values.tolist(), pairs.residuals.tolist(), strict=True):
    print(f"eigenvalue {value:.6f}, off by {residual:.0e} at most")
ratio = pairs.ratio
print(f"ratio {ratio.value:.4f} in [{ratio.low:.4f}, {ratio.high:.4f}]: {ratio.verdict}")
assert pairs.check is not None  # it is None only with probability=None
print(f"a larger one was missed with probability {pairs.check.probability:.1g} at most")

# Every estimate takes an operator; this one counts the last layer alone, over batches.
batches = [(inputs[:150], targets[:150]), (inputs[150:], targets[150:])]
last = hessian(model, cross_entropy, batches, parameters="2.*")
estimate, density = trace(last), spectral_density(last)
print(f"trace of the last layer's block {estimate.value:.4f} in [{estimate.low:.4f}, {estimate.high:.4f}]")
print(
    f"its spectrum is drawn over {density.grid[0]:.3f} to {density.grid[-1]:.3f}, from {density.products} products"
)

distances = torch.linspace(-1, 1, 5).tolist()
line = loss_landscape(model, cross_entropy, (inputs, targets), pairs.vectors[:1], [distances])
for distance, loss, quadratic in zip(distances, line.losses.tolist(), line.quadratic.tolist(), strict=True):
    print(f"at {distance:+.1f} the loss is {loss:.4f}, its quadratic model {quadratic:.4f}")
