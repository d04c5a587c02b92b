"""The rules that decide between a candidate and its reference."""

import pytest

from penstock.gates import Outcome
from penstock.registry.methods import built_in
from penstock.registry.rules import (
    Demand,
    check_bound,
    check_power,
    check_rows,
    check_slices,
    demand_on_production,
    holm,
    judge_slices,
    not_worse,
)
from penstock.spec.names import COMPARISON_METHODS
from penstock.spec.project import Bound, Promotion, SliceRule
from penstock.training.differences import Difference

MANY = 10_000.0  # degrees of freedom: Student's quantiles are normal


def found(better_by: float, error: float = 0.1, metric: str = "log_loss") -> Difference:
    return Difference(metric, 0.5, 0.5 + better_by, better_by, error, MANY, 1000)


UNKNOWN = Difference("log_loss", None, 0.5, why_not="all 7 labels are 1")


@pytest.mark.parametrize(
    ("better_by", "error", "threshold", "superior", "not_inferior"),
    [
        (0.17, 0.1, 0.0, True, True),  # one-sided 5 %: 1.645 standard errors
        (0.16, 0.1, 0.0, False, False),
        (0.0, 0.0, 0.0, False, True),  # the same model: not better, and not worse
        (0.0, 0.1, -0.2, True, True),
        (0.0, 0.1, -0.1, False, False),
        (-0.3 + 0.2, 0.0, -0.1, False, True),  # rounding is no advantage, and no loss
    ],
)
def test_what_the_lower_end_of_the_interval_must_reach(better_by, error, threshold, superior, not_inferior):
    assert Demand("d", "o", threshold, 0.05).holds(found(better_by, error)) is superior
    assert not_worse("d", "o", -threshold, 0.05).holds(found(better_by, error)) is not_inferior


def test_a_smaller_error_rate_asks_for_more():
    assert Demand("d", "o", 0.0, 0.05).holds(found(0.2))
    assert not Demand("d", "o", 0.0, 0.01).holds(found(0.2))


def test_where_nothing_need_be_shown_the_figures_on_the_rows_decide() -> None:
    unsure = found(0.2, 10.0)
    assert not Demand("d", "o", 0.0, 0.05).holds(unsure)
    demand = Demand("d", "o", 0.0, 0.05, shown=False)
    assert demand.holds(unsure)
    worse = demand.check(found(-0.2, 10.0), 500, {})
    assert worse.outcome is Outcome.FAIL
    assert "wanted: better by more than 0 on these rows: it is not" in worse.detail


def test_a_failing_check_tells_worse_from_not_shown():
    demand = demand_on_production(Promotion(metric="log_loss"), "version 3")
    assert demand.check(found(0.5), 900, {}).outcome is Outcome.PASS
    unsure, worse = demand.check(found(0.1), 900, {}), demand.check(found(-0.5), 900, {})
    assert unsure.detail == (
        "log_loss 0.5 against 0.6 of version 3 on 900 rows: better by 0.1, 90 % interval -0.0645 to +0.265; "
        "wanted: better by more than 0: these rows do not show it"
    )
    assert worse.detail.endswith("wanted: better by more than 0: it is not")
    assert unsure.evidence["lower"] == pytest.approx(-0.0645, abs=1e-3)
    assert demand.check(UNKNOWN, 7, {}).detail == "log_loss cannot be compared: all 7 labels are 1"


def test_non_inferiority_is_declared_by_name():
    rule = Promotion(metric="log_loss", rule="non_inferior", not_worse_by=0.2)
    demand = demand_on_production(rule, "version 3")
    assert demand.name == "not worse than production"
    assert demand.check(found(0.0), 900, {}).detail.endswith("wanted: worse by at most 0.2")
    assert not demand.holds(found(-0.1))


def test_a_comparison_on_too_few_rows_says_how_many_it_takes():
    rule = Promotion(metric="log_loss", detectable=0.15)
    demand = demand_on_production(rule, "version 3")
    few = check_power(rule, demand, found(0.0), 1000, passed=False)
    assert few is not None
    assert few.outcome is Outcome.WARN
    assert few.evidence["detectable"] == pytest.approx(0.1 * (1.645 + 1.2817), abs=1e-3)
    assert few.evidence["needed_rows"] == pytest.approx(1000 * (0.29266 / 0.15) ** 2, rel=0.001)
    assert "promotion.detectable declares 0.15: that takes some 38" in few.detail
    enough = check_power(rule, demand, found(0.0, 0.05), 4000, passed=False)
    assert enough is not None
    assert enough.outcome is Outcome.PASS
    worse = check_power(rule, demand, found(-0.5), 1000, passed=False)
    assert worse is not None
    assert worse.outcome is Outcome.PASS, "more rows would not help it"
    assert check_power(Promotion(metric="log_loss"), demand, found(0.0), 1000, passed=False) is None


def test_holm_rejects_from_the_smallest_on_until_one_holds():
    assert holm([0.04, 0.001, 0.02], 0.05) == [1, 2, 0]
    assert holm([0.04, 0.001, 0.03], 0.05) == [1]
    assert holm([0.02, 0.02, 0.02], 0.05) == []
    assert holm([], 0.05) == []


def test_a_slice_blocks_where_it_is_shown_to_be_worse_than_its_margin():
    slices = {"a": found(-1.0), "b": found(-0.3), "c": found(0.5)}
    warned = judge_slices(SliceRule(), 0.05, slices)
    assert list(map(str, warned.values())) == ["warn", "warn", "pass"]
    strict = judge_slices(SliceRule(margin=0.2), 0.05, slices)
    assert list(map(str, strict.values())) == ["fail", "pass", "pass"]
    single = judge_slices(SliceRule(margin=0.2, margins={"a": 2.0}), 0.05, slices)
    assert list(map(str, single.values())) == ["pass", "pass", "pass"]
    safe = judge_slices(SliceRule(margin=0.2, blocks="not_shown_safe"), 0.05, slices)
    assert list(map(str, safe.values())) == ["fail", "fail", "pass"]


def test_of_many_slices_one_that_looks_worse_by_chance_blocks_nothing():
    one, many = {"a": found(-0.2)}, {str(n): found(0.0) for n in range(40)} | {"a": found(-0.2)}
    assert judge_slices(SliceRule(margin=0.0), 0.05, one)["a"] is Outcome.FAIL
    assert set(judge_slices(SliceRule(margin=0.0), 0.05, many).values()) == {Outcome.PASS}


def test_the_check_of_slices_names_what_blocks_and_what_was_not_compared():
    rule = SliceRule(margin=0.1)
    check = check_slices(rule, 0.05, {"a=1": found(-1.0), "a=2": found(0.0)}, {"a=3": "no labelled rows"}, {})
    assert check is not None
    assert check.outcome is Outcome.FAIL
    assert check.detail == (
        "shown to be worse than their margin: a=1 (worse by 1, allowed 0.1); 1 not compared: a=3 (no labelled rows)"
    )
    assert check_slices(rule, 0.05, {}, {}, {}) is None
    assert check_slices(rule, 0.05, {"a=2": found(0.0)}, {}, {}).detail == "none of 1 slices blocks"


def test_where_safety_must_be_shown_a_slice_of_which_nothing_was_shown_blocks():
    small, unknown = (
        {"a=1": "50 rows, at least 200 are wanted", "a=2": "no labelled rows"},
        {"b=1": "all 300 labels are 1"},
    )

    def outcome(**rule: object) -> str:
        check = check_slices(SliceRule.model_validate(rule), 0.05, {"a=3": found(0.0)}, small, unknown)
        assert check is not None
        return f"{check.outcome}: {check.detail}"

    own = outcome(margins={"a=1": 0.0}, blocks="not_shown_safe")
    assert own.startswith(
        "fail: not compared, so not shown to be within their margin: a=1 (50 rows, at least 200 are wanted). Compare"
    )
    assert own.endswith("; 2 not compared: a=2 (no labelled rows), b=1 (all 300 labels are 1)")
    assert "margin: b=1 (all 300" in outcome(margin=1.0, blocks="not_shown_safe")  # of the small ones it asks nothing
    assert "margin: b=1 (all 300 labels are 1), a=2 (no" in outcome(
        margin=1.0, margins={"a=2": 0.1}, blocks="not_shown_safe"
    )
    for harmless in ({"margin": 1.0, "margins": {"a=1": 0.1}}, {"blocks": "not_shown_safe"}):
        assert outcome(**harmless).startswith("pass: none of 1 slices blocks; 3 not compared: a=1 (50 rows")


def test_too_few_rows_fail_with_the_setting_to_change_and_what_to_do():
    assert check_rows(500, 500, "in May").outcome is Outcome.PASS
    few = check_rows(499, 500, "in May")
    assert few.outcome is Outcome.FAIL
    assert few.detail.startswith("only 499 labelled rows in May, at least 500 are wanted (promotion.minimum_rows)")
    assert "run model_promotion for this version again" in few.detail
    assert check_rows(0, 500, "in May").detail.startswith("there are no labelled rows in May")


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
    check = check_bound("roc_auc", None, Bound(min=0.6), "all 7 labels are 1")
    assert check.outcome is Outcome.FAIL
    assert check.detail == "roc_auc cannot be computed: all 7 labels are 1"


def test_the_specs_methods_are_those_that_there_are():
    assert tuple(built_in()) == COMPARISON_METHODS
