"""Two nets of the size people have, at initialisation: a ResNet-18 and a transformer encoder.

Reference values, in float64: python -m curves.nets (in benchmarks/, a few minutes).
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18  # type: ignore[import-untyped,unused-ignore]

from curves.report import Images

PASSES = 20  # in train mode, for the statistics of batch normalisation
TOKENS, LENGTH, WIDTH = 500, 16, 128

# The ten values of largest magnitude (of the ResNet two), as `python -m curves.nets` prints them.
REFERENCE: dict[str, tuple[float, ...]] = {
    "resnet": (46.895165623018606, 43.0770765823094),
    "resnet-fan-out": (74.08846135808255, 68.39500248785184),
    "transformer": (
        *(1.058648900906512, 1.0214451879191289, 1.0091863743768232, 0.9550198998958053, 0.9372089012215795),
        *(0.9143310216851592, 0.8892913038511591, 0.8569888332830707, 0.8246988458737439, 0.8120626110143525),
    ),
}


class Encoder(nn.Module):
    """A pre-norm transformer encoder with learned positions; returns scores ``(examples, TOKENS, LENGTH)``."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        layers = [
            nn.TransformerEncoderLayer(
                WIDTH,
                4,
                512,
                dropout=0.0,
                activation=functional.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(4)
        ]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(WIDTH, TOKENS)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, sentences: Tensor) -> Tensor:
        """Return the scores of each token at each place."""
        embedded = self.tokens(sentences) + self.places.weight
        scores: Tensor = self.head(self.layers(embedded))
        return scores.transpose(1, 2)


def resnet(*, fan_out: bool = False) -> tuple[nn.Module, Images]:
    """Return the ResNet-18 of 11.2 million parameters for small images, in eval mode, and 32 images.

    Args:
        fan_out: Whether convolutions start as torchvision draws them, or otherwise as torch does. Of the net as
            torchvision draws it, two of 4.5 million units are on in float32 and off in float64 or the other way, by
            which the two Hessians differ by 2e-3 of the first eigenvalue: no search in float32 comes nearer.
    """
    torch.manual_seed(0)
    model = resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    if not fan_out:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    images, labels = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))
    with torch.no_grad():
        for _ in range(PASSES):
            model(images)
    return model.eval(), (images, labels)


def transformer() -> tuple[nn.Module, Images]:
    """Return the encoder of 0.92 million parameters, and 32 sentences of 16 tokens with targets."""
    torch.manual_seed(0)
    model = Encoder()
    return model.eval(), (torch.randint(TOKENS, (32, LENGTH)), torch.randint(TOKENS, (32, LENGTH)))


NETS: dict[str, Callable[[], tuple[nn.Module, Images]]] = {
    "resnet": resnet,
    "resnet-fan-out": functools.partial(resnet, fan_out=True),
    "transformer": transformer,
}


def products_in_double(name: str) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return a net's Hessian in float64 as a product with one vector, by two backward passes, and its size."""
    model, (inputs, targets) = NETS[name]()
    model.double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    parameters = list(model.parameters())
    loss = functional.cross_entropy(model(inputs), targets)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    sizes = [p.numel() for p in parameters]

    def product(vector: Tensor) -> Tensor:
        parts = [part.view_as(p) for part, p in zip(torch.split(vector, sizes), parameters, strict=True)]
        images = torch.autograd.grad(slopes, parameters, parts, retain_graph=True)
        return torch.cat([image.flatten() for image in images])

    return product, sum(sizes)


def main() -> None:
    """Print the reference values and their residuals."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name, count in (("transformer", 10), ("resnet", 2), ("resnet-fan-out", 2)):
            began = time.perf_counter()
            product, size = products_in_double(name)

            def as_numpy(vector: Any, product: Callable[[Tensor], Tensor] = product) -> Any:
                return product(torch.from_numpy(vector.ravel())).numpy()

            operator: Any = LinearOperator((size, size), matvec=as_numpy, dtype=np.float64)
            values, vectors = eigsh(operator, k=count, tol=1e-9, ncv=2 * count + 16)
            pairs = sorted(zip(values.tolist(), vectors.T, strict=True), key=lambda pair: -abs(pair[0]))
            worst = max(
                float((product(torch.from_numpy(vector)) - value * torch.from_numpy(vector)).norm())
                for value, vector in pairs
            )
            seconds = time.perf_counter() - began
            print(
                f"{name}: {tuple(value for value, _ in pairs)}, residual {worst:.1e}, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
