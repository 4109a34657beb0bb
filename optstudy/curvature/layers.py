"""The spectrum of each layer's diagonal block of the Hessian."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from optstudy.curvature.arguments import check_options, check_whole
from optstudy.curvature.batches import Data
from optstudy.curvature.build import measured
from optstudy.curvature.density import Density, spectral_density
from optstudy.curvature.eigenpairs import Eigenpairs, top_eigenpairs
from optstudy.curvature.losses import Loss
from optstudy.curvature.objective import select_parameters
from optstudy.curvature.operators import Operator, hessian
from optstudy.curvature.progress import Progress, last
from optstudy.curvature.reprs import short_repr


@dataclass(frozen=True)
class LayerSpectrum:
    r"""The spectrum of the block :math:`\nabla^2_{\theta_l} L` of one layer's parameters :math:`\theta_l`."""

    layer: str  # name of the module that owns the parameters; "" for the model itself
    parameters: tuple[str, ...]  # names, in the order of the vectors' entries
    pairs: Eigenpairs
    density: Density | None  # if it was requested

    def __repr__(self) -> str:
        return short_repr(self, "layer", "pairs", "density")


def layer_spectra(
    model: nn.Module,
    loss: Loss | None = None,
    data: Data | None = None,
    *,
    k: int = 2,
    density: bool = False,
    parameters: str | Sequence[str] | None = None,
    **options: Any,
) -> dict[str, LayerSpectrum]:
    r"""Return the top eigenpairs of the Hessian layer by layer: of its diagonal block for each layer.

    A layer is a module with parameters of its own; a parameter that several modules share belongs to the first. By
    Cauchy's interlacing, no eigenvalue of a block exceeds the largest of the whole Hessian.

    Args:
        model: Any module, already in train or eval mode as desired.
        loss: Mean loss of a batch.
        data: A batch, or batches; see `hessian`.
        k: Number of eigenpairs of each layer; all of a layer with fewer parameters.
        density: Whether to estimate the spectral density of each block as well.
        parameters: Names or patterns of the parameters to take into account; by default all that require a gradient.
        options: Further arguments of `hessian`, such as ``dtype`` and ``denominator``.

    Returns:
        The spectrum of each layer by the name of its module, in the model's order.

    Raises:
        ValueError: As `hessian` and `top_eigenpairs` do.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
        >>> for parameter in model.parameters():
        ...     _ = nn.init.ones_(parameter)
        >>> inputs, targets = torch.eye(2, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
        >>> spectra = layer_spectra(model, nn.functional.mse_loss, (inputs, targets))
        >>> {layer: [round(value, 6) for value in found.pairs.values.tolist()] for layer, found in spectra.items()}
        {'0': [1.0, 1.0], '1': [2.0]}
    """
    return last(iter_layer_spectra(model, loss, data, k=k, density=density, parameters=parameters, **options))


def iter_layer_spectra(
    model: nn.Module,
    loss: Loss | None = None,
    data: Data | None = None,
    *,
    k: int = 2,
    density: bool = False,
    parameters: str | Sequence[str] | None = None,
    **options: Any,
) -> Iterator[Progress[dict[str, LayerSpectrum]] | dict[str, LayerSpectrum]]:
    """Iterate `layer_spectra`: yield the number of layers done and their spectra, and at the end all spectra."""
    if isinstance(model, Operator) or loss is None or data is None:
        raise TypeError(
            "layer_spectra takes a model, its loss and data, and measures the Hessian of each layer:"
            " layer_spectra(model, loss, (inputs, targets))"
        )
    check_whole(k=k)
    check_options("layer_spectra", options, hessian)
    model = measured(model, loss)
    layers = _layers(select_parameters(model, parameters))
    spectra: dict[str, LayerSpectrum] = {}
    for layer, names in layers.items():
        block = hessian(model, loss, data, parameters=[glob.escape(name) for name in names], **options)
        spectra[layer] = LayerSpectrum(
            layer=layer,
            parameters=tuple(names),
            pairs=top_eigenpairs(block, k=min(k, block.dim)),
            density=spectral_density(block) if density else None,
        )
        yield Progress(len(spectra), len(layers), dict(spectra))
    yield spectra


def _layers(names: Sequence[str]) -> dict[str, list[str]]:
    """Group the names of parameters by the module that owns them, without torch's modules for parametrizations."""
    layers: dict[str, list[str]] = {}
    for name in names:
        owner = name.rpartition(".")[0]
        layers.setdefault(f".{owner}".partition(".parametrizations.")[0].removeprefix("."), []).append(name)
    return layers
