"""Figures, each a function from records to a matplotlib Figure. The only importer of matplotlib."""

from matplotlib.figure import Figure

from optstudy.figures.comparing import accuracies, differences
from optstudy.figures.confusion import confusion, confusion_of
from optstudy.figures.curvature import eigen_ratio, landscape_line, landscape_plane, spectrum
from optstudy.figures.geometry import flatness
from optstudy.figures.search import history, importances, score_against_learning_rate, slices
from optstudy.figures.seeds import gradient_norms, loss_lines, ratios
from optstudy.figures.style import pdf, png
from optstudy.figures.surface import surface_of
from optstudy.figures.sweep import sample_sweep
from optstudy.figures.targets import times_to_target
from optstudy.figures.training import gradient_norm
from optstudy.figures.tuning import learning_rates, tuning_curves

__all__ = [
    "Figure",
    "accuracies",
    "confusion",
    "confusion_of",
    "differences",
    "eigen_ratio",
    "flatness",
    "gradient_norm",
    "gradient_norms",
    "history",
    "importances",
    "landscape_line",
    "landscape_plane",
    "learning_rates",
    "loss_lines",
    "pdf",
    "png",
    "ratios",
    "sample_sweep",
    "score_against_learning_rate",
    "slices",
    "spectrum",
    "surface_of",
    "times_to_target",
    "tuning_curves",
]
