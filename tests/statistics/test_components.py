"""Variance between groups and inside them."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from optstudy.statistics import variance_components


def test_equal_groups_have_the_components_that_statsmodels_finds_by_restricted_likelihood() -> None:
    draw = np.random.default_rng(0)
    groups = draw.normal(0, 1, (6, 1)) + draw.normal(0, 0.5, (6, 8))
    frame = pd.DataFrame({"value": groups.ravel(), "group": np.repeat(np.arange(6), 8)})

    between, within = variance_components(groups.tolist())
    fitted = MixedLM(frame["value"], np.ones(len(frame)), frame["group"]).fit(reml=True)

    assert within == pytest.approx(fitted.scale, rel=1e-4)
    assert between == pytest.approx(float(fitted.cov_re.iloc[0, 0]), rel=1e-3)


def test_unequal_groups_are_not_biased() -> None:
    draw = np.random.default_rng(1)
    sizes = (10, 5, 5)
    estimates = [
        variance_components([(draw.normal(0, 2) + draw.normal(0, 1, size)).tolist() for size in sizes])
        for _ in range(4000)
    ]

    assert np.mean([within for _, within in estimates]) == pytest.approx(1, rel=0.03)
    assert np.mean([between for between, _ in estimates]) == pytest.approx(4, rel=0.1)


def test_groups_that_differ_less_than_their_values_have_no_variance_between_them() -> None:
    assert variance_components([[1.0, 3.0], [1.1, 3.1]])[0] == 0
