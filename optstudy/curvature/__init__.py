"""Curvature of the loss of any torch model: certified eigenpairs, their ratio, spectra, landscapes.

This package imports nothing else of optstudy.
"""

from optstudy.curvature.build import objective
from optstudy.curvature.completeness import Check
from optstudy.curvature.cost import Cost, estimate_cost
from optstudy.curvature.density import Density, iter_density, spectral_density
from optstudy.curvature.distributed import on_first_process
from optstudy.curvature.eigenpairs import Eigenpairs, iter_eigenpairs, top_eigenpairs
from optstudy.curvature.landscape import Landscape, filter_normalised, iter_landscape, loss_landscape
from optstudy.curvature.layers import LayerSpectrum, iter_layer_spectra, layer_spectra
from optstudy.curvature.objective import Objective
from optstudy.curvature.operators import (
    Expansion,
    Operator,
    expand,
    fisher,
    gauss_newton,
    hessian,
    preconditioned,
)
from optstudy.curvature.preconditioner import Stability, has_preconditioner, preconditioner, stability
from optstudy.curvature.progress import Progress
from optstudy.curvature.ratio import Ratio, Sign, Verdict, ratio_interval
from optstudy.curvature.symmetry import check_second_derivatives, check_symmetry
from optstudy.curvature.trace import Estimate, iter_trace, trace
from optstudy.curvature.tracker import EigenTracker

__all__ = [
    "Check",
    "Cost",
    "Density",
    "EigenTracker",
    "Eigenpairs",
    "Estimate",
    "Expansion",
    "Landscape",
    "LayerSpectrum",
    "Objective",
    "Operator",
    "Progress",
    "Ratio",
    "Sign",
    "Stability",
    "Verdict",
    "check_second_derivatives",
    "check_symmetry",
    "estimate_cost",
    "expand",
    "filter_normalised",
    "fisher",
    "gauss_newton",
    "has_preconditioner",
    "hessian",
    "iter_density",
    "iter_eigenpairs",
    "iter_landscape",
    "iter_layer_spectra",
    "iter_trace",
    "layer_spectra",
    "loss_landscape",
    "objective",
    "on_first_process",
    "preconditioned",
    "preconditioner",
    "ratio_interval",
    "spectral_density",
    "stability",
    "top_eigenpairs",
    "trace",
]
