"""Figures, each a function from records to a matplotlib Figure. The only importer of matplotlib."""

from matplotlib.figure import Figure

from optstudy.figures.confusion import confusion
from optstudy.figures.curvature import eigen_ratio, landscape_line, landscape_plane, spectrum
from optstudy.figures.search import history, importances, score_against_learning_rate, slices
from optstudy.figures.style import png
from optstudy.figures.sweep import sample_sweep
from optstudy.figures.training import gradient_norm

__all__ = [
    "Figure",
    "confusion",
    "eigen_ratio",
    "gradient_norm",
    "history",
    "importances",
    "landscape_line",
    "landscape_plane",
    "png",
    "sample_sweep",
    "score_against_learning_rate",
    "slices",
    "spectrum",
]
