"""The Hessian layer by layer, the progress of a long estimate, and figures of both."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from optstudy.curvature import Progress, hessian, iter_density, layer_spectra
from optstudy.figures import plot

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
inputs, targets = torch.randn(200, 8), torch.randint(0, 3, (200,))

spectra = layer_spectra(model, cross_entropy, (inputs, targets), k=2)
for layer, spectrum in spectra.items():
    first, second = spectrum.pairs.values.tolist()
    print(f"layer {layer}: {first:.4f} and {second:.4f}, {spectrum.pairs.ratio.verdict}")
plot(spectra, "A small net").savefig("layers.png")  # in a notebook, plot(spectra) alone shows it

for step in iter_density(hessian(model, cross_entropy, (inputs, targets))):
    if not isinstance(step, Progress):
        plot(step, "A small net").savefig("density.png")
    elif step.done % 100 == 0:
        print(f"{step.done} of {step.total} products")
