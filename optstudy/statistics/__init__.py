"""Statistical tests and intervals on arrays, based on scipy and statsmodels."""

from optstudy.statistics.components import Components, variance_components
from optstudy.statistics.intervals import Interval, mean_interval, wilson_interval
from optstudy.statistics.pairs import Difference, PairTest, Verdict, difference, judge, seeds_to_show
from optstudy.statistics.single import Discordance, Rank, discordance, rank_correlation

__all__ = [
    "Components",
    "Difference",
    "Discordance",
    "Interval",
    "PairTest",
    "Rank",
    "Verdict",
    "difference",
    "discordance",
    "judge",
    "mean_interval",
    "rank_correlation",
    "seeds_to_show",
    "variance_components",
    "wilson_interval",
]
