"""The first two methods: the candidate against production and against the heuristic, on rows held out from both."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.gates import Check, Outcome
from penstock.registry.contest import Contest
from penstock.registry.methods import Finding, Measured
from penstock.registry.rules import (
    Demand,
    check_bound,
    check_power,
    check_rows,
    demand_on_production,
    not_worse,
)
from penstock.registry.slice_comparison import compare_slices
from penstock.spec.project import PromotionRule
from penstock.training.differences import Difference, difference
from penstock.training.metrics import evaluate_metrics, metric_names

if TYPE_CHECKING:
    import numpy as np

PRODUCTION, HEURISTIC = "production", "heuristic"


def against_heuristic(contest: Contest) -> Finding:
    """The candidate must be better than the heuristic: shown to be, or under `rule: non_inferior` on these rows.

    Where the heuristic alone decides (there is no production, or none that can be asked), by more than `better_by`,
    and the candidate must hold `first_bounds`.
    """
    rule, alone = contest.model.promotion, contest.rows.production is None
    demand = Demand(
        "better than heuristic", "the heuristic", max(rule.better_by, 0.0) if alone else 0.0, rule.alpha,
        shown=rule.rule is PromotionRule.SUPERIOR,
    )  # fmt: skip
    measured = _measure(contest, HEURISTIC, contest.heuristic, {rule.metric: demand})
    checks = [_enough(contest), *_judged(contest, HEURISTIC, measured, {rule.metric: demand})]
    if alone:
        for check, rows in _bounds(contest):
            checks.append(check)
            measured += rows
    return Finding(tuple(checks), tuple(measured))


def against_production(contest: Contest) -> Finding:
    """The rule of `promotion`, its guard metrics and slices; before the first promotion there is nothing to ask."""
    rows, rule = contest.rows, contest.model.promotion
    if contest.production is None:
        return Finding((Check("first version", Outcome.PASS, "there is no version in production yet"),))
    if rows.production is None:
        failed = _production_fails(contest)
        unknown = Difference(rule.metric, None, None, why_not=rows.production_fails)
        row = Measured(PRODUCTION, unknown, 0, rows.units.kind, 0, verdict=str(failed.outcome), reason=failed.detail)
        return Finding((failed,), (row,))
    demand = demand_on_production(rule, f"version {contest.production}")
    demands = {rule.metric: demand} | {
        name: not_worse(f"not worse in {name}", demand.opponent, margin, rule.alpha)
        for name, margin in rule.guard_metrics.items()
    }
    measured = _measure(contest, PRODUCTION, rows.production, demands)
    checks = [_enough(contest), *_judged(contest, PRODUCTION, measured, demands)]
    decisive = _of(measured, rule.metric).difference
    passed = all(check.outcome is Outcome.PASS for check in checks)
    sliced, slice_rows = compare_slices(contest, PRODUCTION, rows.production)
    further = (check_power(rule, demand, decisive, len(rows), passed=passed), sliced)
    checks += [check for check in further if check is not None]
    return Finding(tuple(checks), (*measured, *slice_rows))


def _measure(contest: Contest, reference: str, said: "np.ndarray", demands: dict[str, Demand]) -> list[Measured]:
    """Every metric on all rows; those of `demands` decide."""
    rows, model = contest.rows, contest.model
    measured = []
    for metric in metric_names(model):
        found = difference(contest.project, model, metric, rows.label, rows.candidate, said, rows.units)
        row = Measured(reference, found, len(rows), rows.units.kind, rows.units.count)
        if metric in demands:
            check = demands[metric].check(found, len(rows), {})
            row = replace(row, required=demands[metric].threshold, verdict=str(check.outcome), reason=check.detail)
        measured.append(row)
    return measured


def _judged(
    contest: Contest, reference: str, measured: Sequence[Measured], demands: dict[str, Demand]
) -> Iterator[Check]:
    evidence = _evidence(contest, reference)
    for metric, demand in demands.items():
        yield demand.check(_of(measured, metric).difference, len(contest.rows), evidence)


def _of(measured: Sequence[Measured], metric: str) -> Measured:
    return next(row for row in measured if row.difference.metric == metric)


def _enough(contest: Contest) -> Check:
    return check_rows(len(contest.rows), contest.model.promotion.minimum_rows, contest.period)


def _evidence(contest: Contest, reference: str) -> dict[str, Any]:
    rows, rule = contest.rows, contest.model.promotion
    return {
        "method": reference, "production_version": contest.production, "candidate_version": contest.candidate,
        "rows": len(rows), "after": to_text(rows.after), "until": to_text(contest.as_of), "unit": rows.units.kind,
        "units": rows.units.count, "seed": rule.seed,
    }  # fmt: skip


def _production_fails(contest: Contest) -> Check:
    why = f"production, version {contest.production}, cannot be asked any more: {contest.rows.production_fails}"
    evidence = {"production_version": contest.production, "candidate_version": contest.candidate}
    if contest.model.promotion.if_production_fails == HEURISTIC:
        return Check(
            "production scores", Outcome.WARN,
            f"{why}. promotion.if_production_fails lets the heuristic alone decide", evidence,
        )  # fmt: skip
    return Check(
        "production scores", Outcome.FAIL,
        f"{why}. Mend that or roll back, then run model_promotion for version {contest.candidate} again; or declare "
        "promotion.if_production_fails: heuristic to let a candidate in that beats the heuristic", evidence,
    )  # fmt: skip


def _bounds(contest: Contest) -> Iterator[tuple[Check, list[Measured]]]:
    """A check for each of `first_bounds`, with a row for each of its limits."""
    rows, model = contest.rows, contest.model
    found = evaluate_metrics(contest.project, model, rows.label, rows.candidate, list(model.promotion.first_bounds))
    for metric, bound in model.promotion.first_bounds.items():
        value = found.values.get(metric)
        check = check_bound(metric, value, bound, found.left_out.get(metric))
        lines = []
        for reference, limit, sign in (("bound_min", bound.min, 1), ("bound_max", bound.max, -1)):
            if limit is not None:
                margin = None if value is None else sign * (value - limit)
                holds = margin is not None and margin >= 0
                lines.append(Measured(
                    reference, Difference(metric, value, limit, margin), len(rows), rows.units.kind, rows.units.count,
                    required=0.0, verdict=str(Outcome.PASS if holds else Outcome.FAIL), reason=check.detail,
                ))  # fmt: skip
        yield check, lines
