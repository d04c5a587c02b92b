"""Distances from a profile: known values, known references, and what they answer where nothing can be compared."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import distance
from scipy.stats import wasserstein_distance

from penstock.monitoring.drift import METHODS, PSI_EPSILON, Comparison, measures
from penstock.profiles import bin_shares, build_profile
from penstock.spec.project import DriftMethod

RANDOM = np.random.default_rng(11)
BEFORE = pd.Series(RANDOM.normal(10, 2, 20_000))


def column(values, **options):
    return build_profile(pd.DataFrame({"x": values}), **options).columns["x"]


def measure(method, before, after):
    return METHODS[DriftMethod(method)](Comparison(column(before), pd.Series(after)))


def test_every_declared_method_is_registered():
    assert set(METHODS) == set(DriftMethod)


@pytest.mark.parametrize("method", list(DriftMethod))
def test_the_training_data_have_no_distance_from_themselves_and_drift_grows_it(method):
    distances = [measure(method, BEFORE, BEFORE + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances == sorted(distances)
    assert distances[1] > 0.01


@pytest.mark.parametrize("method", list(DriftMethod))
def test_another_sample_of_the_same_is_near(method):
    assert measure(method, BEFORE, RANDOM.normal(10, 2, 20_000)) < 0.05


def test_psi_of_two_bins_by_hand():
    before, after = ["a"] * 80 + ["b"] * 20, ["a"] * 60 + ["b"] * 40
    assert measure("psi", before, after) == pytest.approx(-0.2 * np.log(0.75) + 0.2 * np.log(2))


def test_an_empty_bin_counts_as_epsilon_in_psi():
    found = measure("psi", ["a"] * 100, ["a"] * 90 + ["new"] * 10)
    assert found == pytest.approx(-0.1 * np.log(0.9) + (0.1 - PSI_EPSILON) * np.log(0.1 / PSI_EPSILON))


def test_jensen_shannon_is_scipys_over_the_bins():
    after = pd.Series(RANDOM.normal(11, 3, 5000))
    profile = column(BEFORE)
    expected = distance.jensenshannon(profile.share_list, bin_shares(profile, after), base=2)
    assert METHODS[DriftMethod.JENSEN_SHANNON](Comparison(profile, after)) == pytest.approx(expected)


def test_jensen_shannon_of_nothing_in_common_is_one():
    assert measure("jensen_shannon", ["a", "a"], ["b", "b"]) == pytest.approx(1)


def test_wasserstein_is_scipys_on_all_values_within_a_hundredth():
    after = pd.Series(RANDOM.normal(11, 3, 20_000))
    expected = wasserstein_distance(BEFORE, after) / BEFORE.std()
    assert measure("wasserstein", BEFORE, after) == pytest.approx(expected, abs=0.01)


def test_a_shift_by_one_deviation_is_one_in_wasserstein():
    assert measure("wasserstein", BEFORE, BEFORE + BEFORE.std(ddof=0)) == pytest.approx(1)


@pytest.mark.parametrize("method", list(DriftMethod))
def test_a_constant_column_that_moves_drifts(method):
    assert measure(method, [5.0] * 100, [5.0] * 100) == 0
    assert measure(method, [5.0] * 100, [6.0] * 100) >= 1
    assert measure(method, [5.0] * 100, [4.0] * 100) >= 1


@pytest.mark.parametrize("method", list(DriftMethod))
def test_without_values_on_one_side_there_is_no_distance(method):
    nothing = pd.Series([np.nan, np.nan])
    assert METHODS[method](Comparison(column(BEFORE), nothing)) is None
    assert METHODS[method](Comparison(column(nothing), BEFORE)) is None


def test_wasserstein_does_not_measure_categories():
    profile = column(["a", "b"])
    assert not measures(DriftMethod.WASSERSTEIN, profile)
    assert METHODS[DriftMethod.WASSERSTEIN](Comparison(profile, pd.Series(["a"]))) is None
    assert measures(DriftMethod.PSI, profile)
