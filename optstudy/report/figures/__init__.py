"""Figures, each a function from records to a matplotlib Figure; the only importer of matplotlib."""

from matplotlib.figure import Figure

from optstudy.report.figures.comparison import accuracies, differences
from optstudy.report.figures.confusion import confusion, mean_confusion
from optstudy.report.figures.curvature import eigen_ratio, landscape_line, landscape_plane, spectrum
from optstudy.report.figures.geometry import flatness
from optstudy.report.figures.glyphs import glyph_notice
from optstudy.report.figures.search import history, importances, score_against_learning_rate, slices
from optstudy.report.figures.seeds import gradient_norms, loss_lines, ratios
from optstudy.report.figures.style import pdf, png
from optstudy.report.figures.surface import loss_surface
from optstudy.report.figures.sweep import sample_sweep
from optstudy.report.figures.targets import times_to_target
from optstudy.report.figures.training import gradient_norm
from optstudy.report.figures.tuning import learning_rates, tuning_curves

__all__ = [
    "Figure",
    "accuracies",
    "confusion",
    "differences",
    "eigen_ratio",
    "flatness",
    "glyph_notice",
    "gradient_norm",
    "gradient_norms",
    "history",
    "importances",
    "landscape_line",
    "landscape_plane",
    "learning_rates",
    "loss_lines",
    "loss_surface",
    "mean_confusion",
    "pdf",
    "png",
    "ratios",
    "sample_sweep",
    "score_against_learning_rate",
    "slices",
    "spectrum",
    "times_to_target",
    "tuning_curves",
]
