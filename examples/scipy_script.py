"""Our products in scipy's solver, and our certified solver on the matrices of others."""

import torch
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import Operator, hessian, top_eigenpairs

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
inputs, targets = torch.randn(200, 8), torch.randint(0, 3, (200,))

operator = hessian(model, cross_entropy, (inputs, targets), dtype=torch.float64)
theirs = eigsh(operator.to_scipy(), k=2, which="LM", return_eigenvectors=False)
ours = top_eigenpairs(operator, k=2).values
print(f"scipy finds {theirs[1]:.6f} and {theirs[0]:.6f}, top_eigenpairs {ours[0]:.6f} and {ours[1]:.6f}")

# A sparse matrix: neighbours on a line, and a potential that rises along it.
beside, potential = [-1.0] * 499, [node / 50 for node in range(500)]
chain = sparse.diags_array([beside, potential, beside], offsets=[-1, 0, 1])
pairs = top_eigenpairs(Operator.from_scipy(chain), k=2)
print(f"a chain has {pairs.values[0]:.4f} and {pairs.values[1]:.4f}, {pairs.ratio.verdict}")

# Any product with one vector; that of curvlinops would be `lambda vector: theirs @ vector`.
scale = torch.linspace(0, 1, 500, dtype=torch.float64)


def product(vector: Tensor) -> Tensor:
    """Return the product with a diagonal matrix and one of rank one."""
    return scale * vector + 0.01 * vector.sum()


print(f"a function has {top_eigenpairs(Operator.from_matvec(product, 500), k=1).values[0]:.6f}")
