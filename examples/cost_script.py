"""What a search will need, before it starts."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import estimate_cost, hessian, top_eigenpairs

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(100, 300), nn.Tanh(), nn.Linear(300, 10))
operator = hessian(model, cross_entropy, (torch.randn(50, 100), torch.randint(10, (50,))))

cost = estimate_cost(operator, k=2)  # spends a product or two
print(f"{cost.memory} vectors of {operator.dim} entries: {cost.bytes / 1e6:.0f} MB")
pairs = top_eigenpairs(operator, k=2, memory=30)
print(f"{pairs.products} products at {cost.product_seconds:.3f} s each; the ratio is {pairs.ratio.verdict}")
