"""A small version of `make bench-comparison`: with these seeds, always the same."""

from dataclasses import replace

import pytest

from benchmarks.comparison import CORRELATED, Case, interval, share_promoted

COMPARISONS = 60


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc"])
def test_equal_models_are_promoted_no_more_often_than_declared_and_better_ones_are_found(metric):
    equal, better = (
        share_promoted(Case(CORRELATED, "day", metric, truth), COMPARISONS) for truth in ("equal", "better")
    )
    assert interval(equal, COMPARISONS)[0] <= 0.05
    assert interval(better, COMPARISONS)[1] >= 0.9


def test_rows_drawn_singly_are_too_sure_where_those_of_a_day_are_alike():
    stormy = replace(CORRELATED, rows_a_day=150, day_errors=(0.9, 0.9))
    too_sure, right = (share_promoted(Case(stormy, unit, "log_loss", "equal"), COMPARISONS) for unit in ("row", "day"))
    assert interval(too_sure, COMPARISONS)[0] > 0.05
    assert interval(right, COMPARISONS)[0] <= 0.05


def test_a_candidate_that_is_worse_by_the_margin_is_refused_and_an_equal_one_let_through():
    worse, equal = (
        share_promoted(Case(CORRELATED, "day", "log_loss", truth, "non_inferior"), COMPARISONS)
        for truth in ("worse", "equal")
    )
    assert interval(worse, COMPARISONS)[0] <= 0.05
    assert interval(equal, COMPARISONS)[1] >= 0.9
