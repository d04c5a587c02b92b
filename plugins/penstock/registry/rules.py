"""The rules that decide, on figures alone: each takes differences with their intervals and answers a check."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.gates import Check, Outcome
from penstock.spec.project import Bound, Promotion, PromotionRule, SliceRule
from penstock.training.differences import POWER, Difference

_ROUNDING = 1e-12  # sums of floats in another order differ by less than this


@dataclass(frozen=True)
class Demand:
    """What must be shown: that the candidate is better than a reference by more than `threshold`.

    With `superior` false, -threshold is a margin: the candidate may be worse by as much, and no more. With `shown`
    false the figures on these rows are enough, whatever their interval.
    """

    name: str
    opponent: str
    threshold: float
    alpha: float
    superior: bool = True
    shown: bool = True

    def holds(self, difference: Difference) -> bool:
        """Whether the interval's lower end lies beyond the threshold."""
        if not difference.is_known:
            return False
        lower = difference.interval(self.alpha)[0] if self.shown else difference.better_by or 0.0
        return lower > self.threshold + _ROUNDING if self.superior else lower >= self.threshold - _ROUNDING

    def check(self, difference: Difference, rows: int, evidence: Mapping[str, Any]) -> Check:
        """Pass, or fail with what the rows say instead and what to do."""
        figures = {**evidence, **figures_of(difference, self.alpha), "required_better_by": self.threshold}
        if not difference.is_known:
            detail = f"{difference.metric} cannot be compared: {difference.why_not}"
            return Check(self.name, Outcome.FAIL, detail, figures)
        lower, upper = difference.interval(self.alpha)
        said = (
            f"{difference.metric} {difference.candidate:.6g} against {difference.reference:.6g} of {self.opponent} "
            f"on {rows} rows: {_signed(difference.better_by or 0.0)}, {confidence(self.alpha)} interval "
            f"{lower:+.3g} to {upper:+.3g}"
        )
        if self.holds(difference):
            return Check(self.name, Outcome.PASS, f"{said}; {self._wanted}", figures)
        if upper <= self.threshold or not self.shown:
            return Check(self.name, Outcome.FAIL, f"{said}; {self._wanted}: it is not", figures)
        return Check(self.name, Outcome.FAIL, f"{said}; {self._wanted}: these rows do not show it", figures)

    @property
    def _wanted(self) -> str:
        if self.superior:
            return f"wanted: better by more than {self.threshold:g}{'' if self.shown else ' on these rows'}"
        return f"wanted: worse by at most {-self.threshold:g}"


def not_worse(name: str, opponent: str, margin: float, alpha: float) -> Demand:
    """The demand that the candidate is worse by at most a margin."""
    return Demand(name, opponent, -margin, alpha, superior=False)


def demand_on_production(rule: Promotion, opponent: str) -> Demand:
    """The declared rule, on the metric that decides."""
    if rule.rule is PromotionRule.SUPERIOR:
        return Demand("better than production", opponent, rule.better_by, rule.alpha)
    return not_worse("not worse than production", opponent, rule.not_worse_by, rule.alpha)


def check_power(rule: Promotion, demand: Demand, difference: Difference, rows: int, *, passed: bool) -> Check | None:
    """Whether rows as many as these find what `detectable` declares; None where nothing is declared.

    Too few only warn, and only where they leave the question open.
    """
    if rule.detectable is None or not difference.is_known:
        return None
    found = demand.threshold + difference.detectable(demand.alpha)
    evidence = {"detectable": found, "declared": rule.detectable, "power": POWER, "rows": rows}
    text = f"{rows} such rows find a true advantage of {found:.3g} in {difference.metric} in {POWER:.0%} of comparisons"
    undecided = not passed and difference.interval(demand.alpha)[1] > demand.threshold
    if found <= rule.detectable or not undecided:
        return Check("power", Outcome.PASS, f"{text}; declared: {rule.detectable:g}", evidence)
    needed = math.ceil(rows * ((found - demand.threshold) / (rule.detectable - demand.threshold)) ** 2)
    return Check(
        "power", Outcome.WARN,
        f"{text}, promotion.detectable declares {rule.detectable:g}: that takes some {needed} labelled rows. Run "
        "model_promotion for this version again with a later as_of",
        {**evidence, "needed_rows": needed},
    )  # fmt: skip


def check_slices(
    rule: SliceRule, alpha: float, slices: Mapping[str, Difference], small: Mapping[str, str],
    unknown: Mapping[str, str],
) -> Check | None:  # fmt: skip
    """The slices of a comparison with production: by how much each may be worse. None where there are none.

    small, unknown: those that were not compared, with the reason: too few labelled rows, or whatever else.
    Of many slices some look worse by chance. S. Holm's step-down procedure (Scandinavian Journal of Statistics 6,
    1979) keeps the chance that any harmless one blocks at alpha, however they depend on each other.
    """
    not_compared = {**small, **unknown}
    if not slices and not not_compared:
        return None
    verdicts = judge_slices(rule, alpha, slices)
    blocked = [name for name, outcome in verdicts.items() if outcome is Outcome.FAIL]
    warned = [name for name, outcome in verdicts.items() if outcome is Outcome.WARN]
    evidence = {
        "slices": {name: {**figures_of(found, alpha), "margin": rule.margin_of(name), "outcome": str(verdicts[name])}
                   for name, found in slices.items()},
        "not_compared": dict(not_compared),
    }  # fmt: skip
    open_ones = unshown(rule, small, unknown)
    outcome = Outcome.FAIL if blocked or open_ones else Outcome.WARN if warned else Outcome.PASS
    parts = []
    if blocked:
        how = "shown to be worse than" if rule.blocks == "shown_worse" else "not shown to be within"
        parts.append(f"{how} their margin: {_slices(blocked, slices, rule)}")
    if warned:
        parts.append(f"worse (a warning, no margin is declared): {_slices(warned, slices, rule)}")
    if open_ones:
        parts.append(
            f"not compared, so not shown to be within their margin: {_reasons(open_ones, not_compared)}. Compare again "
            "once more of their labels are known, or declare another margin or blocks: shown_worse (promotion.slices)"
        )
    if not parts:
        parts.append(f"none of {len(slices)} slices blocks")
    others = [name for name in not_compared if name not in open_ones]
    if others:
        parts.append(f"{len(others)} not compared: {_reasons(others, not_compared)}")
    return Check("slices", outcome, "; ".join(parts), evidence)


def judge_slices(rule: SliceRule, alpha: float, slices: Mapping[str, Difference]) -> dict[str, Outcome]:
    """PASS, WARN (worse, without a margin) or FAIL for each slice."""
    if rule.blocks == "not_shown_safe":
        unsafe = {
            name for name, found in slices.items()
            if (margin := rule.margin_of(name)) is not None
            and not not_worse(name, "", margin, alpha).holds(found)
        }  # fmt: skip
        harmed = unsafe | _harmed(rule, alpha, {n: d for n, d in slices.items() if rule.margin_of(n) is None})
    else:
        harmed = _harmed(rule, alpha, slices)
    return {
        name: Outcome.PASS if name not in harmed else Outcome.WARN if rule.margin_of(name) is None else Outcome.FAIL
        for name in slices
    }


def unshown(rule: SliceRule, small: Mapping[str, str], unknown: Mapping[str, str]) -> list[str]:
    """The slices that block because they were not compared; none where a slice blocks by evidence of harm only.

    The margin that all slices have is not asked of those with too few labelled rows; one of their own is.
    """
    if rule.blocks != "not_shown_safe":
        return []
    return [name for name in unknown if rule.margin_of(name) is not None] + [n for n in small if n in rule.margins]


def _harmed(rule: SliceRule, alpha: float, slices: Mapping[str, Difference]) -> set[str]:
    known = [name for name, found in slices.items() if found.is_known]
    values = [slices[name].p_worse_than((rule.margin_of(name) or 0.0) + _ROUNDING) for name in known]
    return {known[place] for place in holm(values, alpha)}


def holm(p_values: Sequence[float], alpha: float) -> list[int]:
    """The places of the hypotheses that Holm's procedure rejects at a family-wise error rate of alpha."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = []
    for step, place in enumerate(order):
        if p_values[place] > alpha / (len(order) - step):
            break
        rejected.append(place)
    return rejected


def check_rows(rows: int, minimum: int, window: str) -> Check:
    """Enough labelled rows to decide on."""
    evidence = {"rows": rows, "minimum_rows": minimum}
    if rows < minimum:
        count = f"only {rows} labelled rows" if rows else "there are no labelled rows"
        detail = (
            f"{count} {window}, at least {minimum} are wanted (promotion.minimum_rows): run model_promotion for this "
            "version again with a later as_of, once more labels are known"
        )
        return Check("labelled rows", Outcome.FAIL, detail, evidence)
    return Check(
        "labelled rows", Outcome.PASS, f"{rows} labelled rows {window}, at least {minimum} are wanted", evidence
    )


def check_bound(metric: str, value: float | None, bound: Bound, why_not: str | None) -> Check:
    """A metric holds its bounds; one that cannot be computed does not."""
    wanted = " and ".join(
        f"at {word} {limit:g}" for word, limit in (("least", bound.min), ("most", bound.max)) if limit is not None
    )
    evidence = {"metric": metric, "value": value, "min": bound.min, "max": bound.max}
    name = f"bound on {metric}"
    if value is None:
        return Check(
            name, Outcome.FAIL, f"{metric} cannot be computed: {why_not or 'it is not a metric of the model'}", evidence
        )
    holds = (bound.min is None or value >= bound.min) and (bound.max is None or value <= bound.max)
    return Check(
        name, Outcome.PASS if holds else Outcome.FAIL, f"{metric} {value:.6g}, wanted {wanted or 'nothing'}", evidence
    )


def figures_of(difference: Difference, alpha: float) -> dict[str, Any]:
    """A difference as JSON values."""
    lower, upper = difference.interval(alpha) if difference.is_known else (None, None)
    return {
        "metric": difference.metric, "candidate": difference.candidate, "reference": difference.reference,
        "better_by": difference.better_by, "lower": lower, "upper": upper, "alpha": alpha,
        "standard_error": difference.standard_error, "repeats": difference.repeats,
    }  # fmt: skip


def confidence(alpha: float) -> str:
    """How sure the two-sided interval is whose ends err with alpha each: 90 % for 0.05."""
    return f"{100 * (1 - 2 * alpha):g} %"


def _reasons(names: Sequence[str], why: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why[name]})" for name in names[:5]) + (" …" if len(names) > 5 else "")


def _signed(better_by: float) -> str:
    if abs(better_by) < _ROUNDING:
        return "no difference"
    return f"{'better' if better_by > 0 else 'worse'} by {abs(better_by):.3g}"


def _slices(names: Sequence[str], slices: Mapping[str, Difference], rule: SliceRule) -> str:
    def text(name: str) -> str:
        found, margin = slices[name], rule.margin_of(name)
        size = _signed(found.better_by) if found.better_by is not None else str(found.why_not)
        return f"{name} ({size}{'' if margin is None else f', allowed {margin:g}'})"

    return ", ".join(map(text, names[:5])) + (" …" if len(names) > 5 else "")
