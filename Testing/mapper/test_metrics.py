"""Measures of a predicted map against analytic values; VALIDATION rows 28 and 31."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from HypoxiaMapperLib.training import metrics


def test_pearson_is_the_cosine_of_centred_vectors_and_nan_where_one_is_constant():
    assert metrics.pearson(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert metrics.pearson(np.array([-1.0, 0, 1]), np.array([1.0, -2, 1])) == pytest.approx(0)
    assert metrics.pearson(np.array([0.0, 1, 2]), np.array([0.0, 0, 1])) == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(metrics.pearson(np.ones(5), np.arange(5)))
    assert np.isnan(metrics.pearson(np.ones(1), np.ones(1)))


def test_mean_absolute_error():
    assert metrics.mean_absolute_error(np.array([1.0, 2]), np.array([2.0, 0])) == 1.5
    assert np.isnan(metrics.mean_absolute_error(np.array([]), np.array([])))


def test_dice_of_empty_masks():
    a, b = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 1], bool)
    assert metrics.dice(a, b) == pytest.approx(2 / 3)
    assert metrics.dice(a, np.zeros(4, bool)) == 0
    assert np.isnan(metrics.dice(np.zeros(4, bool), np.zeros(4, bool)))


def test_bland_altman_limits_use_the_sample_standard_deviation():
    found = metrics.bland_altman(np.array([2.0, 4, 6]), np.array([1.0, 2, 3]))
    assert (found.bias, found.lower, found.upper) == pytest.approx((2, 2 - 1.96, 2 + 1.96))
    assert np.isnan(metrics.bland_altman(np.ones(1), np.ones(1)).bias)


def test_calibration_line_is_found_and_adds_up_over_patients():
    prediction = np.linspace(0, 4, 50)
    truth = 0.3 + 0.7 * prediction
    assert metrics.calibration_slope(prediction, truth) == pytest.approx(0.7)
    assert metrics.moments(prediction, truth).intercept == pytest.approx(0.3)
    parts = metrics.moments(prediction[:20], truth[:20]) + metrics.moments(prediction[20:], truth[20:])
    assert parts.slope == pytest.approx(0.7)
    assert np.isnan(metrics.calibration_slope(np.full(9, 1.2), np.arange(9)))


def test_calibration_error_of_ten_predictions_at_80_percent_of_which_six_are_right():
    """VALIDATION row 31."""
    table = metrics.reliability(np.full(10, 0.8), np.arange(10) < 6)
    assert metrics.expected_calibration_error(table) == pytest.approx(0.2, abs=1e-9)
    assert np.isnan(metrics.expected_calibration_error(np.zeros((3, 15))))


def test_calibration_error_weighs_bins_by_their_number_and_tables_add_up():
    first = metrics.reliability(np.full(30, 0.1), np.zeros(30))
    second = metrics.reliability(np.full(10, 0.9), np.ones(10) * (np.arange(10) < 5))
    assert metrics.expected_calibration_error(first + second) == pytest.approx(0.75 * 0.1 + 0.25 * 0.4)
    assert metrics.reliability(np.array([0.0, 1.0]), np.array([0, 1]))[0, [0, -1]].tolist() == [1, 1]


def test_probability_above_a_threshold():
    found = metrics.probability_above(np.array([1.2, 1.3, 0.0]), np.array([0.3, 0.1, 0.0]), 1.2)
    assert found == pytest.approx([0.5, norm.cdf(1), 0])


@pytest.mark.parametrize("too_small", [1.0, 2.0])
def test_spread_of_the_errors_against_the_predicted_one(too_small):
    levels = (np.arange(2000) + 0.5) / 2000
    truth, mean, sd = norm.ppf(levels), np.zeros(2000), np.full(2000, 1 / too_small)
    hits = metrics.interval_hits(mean, sd, truth) / 2000
    wanted = [2 * norm.cdf(norm.ppf(0.5 + level / 2) / too_small) - 1 for level in metrics.NOMINAL_COVERAGE]
    assert hits == pytest.approx(wanted, abs=2e-3)
    assert metrics.NOMINAL_COVERAGE[-1] == 0.9
    assert metrics.standardised_slope(mean, sd, truth) == pytest.approx(too_small, abs=0.01)


def test_paired_difference_says_better_worse_or_nothing():
    noise = np.random.default_rng(1).normal(0, 0.1, 100)
    low, high = 1 + noise, 1.5 + noise[::-1]
    assert metrics.paired_difference(low, high, True, seed=1).verdict == "better"
    assert metrics.paired_difference(low, high, False, seed=1).verdict == "worse"
    same = metrics.paired_difference(low, low + np.tile([0.1, -0.1], 50), True, seed=1)
    assert same.verdict == "no difference shown"
    assert same.lower < 0 < same.upper


def test_interval_of_a_paired_difference_is_that_of_its_mean():
    difference = np.random.default_rng(2).normal(1, 2, 400)
    found = metrics.paired_difference(difference, np.zeros(400), False, seed=3)
    half = 1.96 * difference.std() / 20
    assert (found.mean, found.lower, found.upper) == pytest.approx(
        (difference.mean(), difference.mean() - half, difference.mean() + half), abs=0.03
    )
    assert metrics.paired_difference(np.array([1.0, np.nan]), np.zeros(2), True, seed=1).pairs == 1
