"""Statistics on arrays: paired tests with their verdicts, confidence intervals, variance components, correlation."""

from optstudy.statistics.components import variance_components
from optstudy.statistics.intervals import Interval, mean_interval, wilson_interval
from optstudy.statistics.pairs import Difference, PairTest, Verdict, compare_pairs, difference, seeds_needed
from optstudy.statistics.single import Discordance, RankCorrelation, discordance, rank_correlation

__all__ = [
    "Difference",
    "Discordance",
    "Interval",
    "PairTest",
    "RankCorrelation",
    "Verdict",
    "compare_pairs",
    "difference",
    "discordance",
    "mean_interval",
    "rank_correlation",
    "seeds_needed",
    "variance_components",
    "wilson_interval",
]
