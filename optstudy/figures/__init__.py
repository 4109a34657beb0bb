"""Figures, each a function from records to a matplotlib Figure. The only importer of matplotlib."""

from optstudy.figures.confusion import confusion
from optstudy.figures.search import history, importances, score_against_learning_rate, slices
from optstudy.figures.style import png
from optstudy.figures.training import gradient_norm

__all__ = [
    "confusion",
    "gradient_norm",
    "history",
    "importances",
    "png",
    "score_against_learning_rate",
    "slices",
]
