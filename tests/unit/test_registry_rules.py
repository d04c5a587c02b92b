"""The rule that decides between a candidate and its reference."""

import pytest

from penstock.gates import Outcome
from penstock.registry.rules import Duel, check_bound, check_rows, is_enough
from penstock.spec.project import Bound


@pytest.mark.parametrize(("lower_is_better", "better_by"), [(True, -0.1), (False, 0.1)])
def test_better_follows_the_metrics_direction(lower_is_better, better_by):
    assert Duel("m", 0.6, 0.5, lower_is_better).better_by == pytest.approx(better_by)


@pytest.mark.parametrize(
    ("better_by", "required", "against_production", "against_heuristic"),
    [
        (0.0, 0.0, True, False),
        (0.001, 0.0, True, True),
        (-0.001, 0.0, False, False),
        (0.0, 0.01, False, False),
        (0.01, 0.01, True, True),
        (0.3 - 0.2, 0.1, True, True),
        (0.009, 0.01, False, False),
        (-0.01, -0.02, True, True),
        (-0.03, -0.02, False, False),
        (float("nan"), 0.0, False, False),
    ],
)
def test_how_much_better_is_enough(better_by, required, against_production, against_heuristic):
    assert is_enough(better_by, required) is against_production
    assert is_enough(better_by, required, strictly=True) is against_heuristic


def test_too_few_rows_fail_with_the_setting_to_change():
    assert check_rows(500, 500, "in May").outcome is Outcome.PASS
    few = check_rows(499, 500, "in May")
    assert few.outcome is Outcome.FAIL
    assert few.detail == "only 499 labelled rows in May, at least 500 are wanted (promotion.minimum_rows)"


@pytest.mark.parametrize(
    ("value", "bound", "outcome"),
    [
        (0.6, Bound(min=0.6), Outcome.PASS),
        (0.59, Bound(min=0.6), Outcome.FAIL),
        (0.6, Bound(min=0.5, max=0.55), Outcome.FAIL),
        (0.6, Bound(), Outcome.PASS),
    ],
)
def test_a_bound_holds_or_not(value, bound, outcome):
    assert check_bound("roc_auc", value, bound, None).outcome is outcome


def test_a_metric_that_cannot_be_computed_holds_no_bound():
    found = check_bound("roc_auc", None, Bound(min=0.6), "all 7 labels are 1")
    assert found.outcome is Outcome.FAIL
    assert found.detail == "roc_auc cannot be computed: all 7 labels are 1"
