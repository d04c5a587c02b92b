"""The declared rule of promotion in words: what people read before they let a version in."""

from collections.abc import Iterator, Sequence

from penstock.spec.project import Bound, Model, Promotion, PromotionRule, SliceRule
from penstock.training.markdown import code


def rule_text(model: Model) -> str:
    """The whole rule: on which rows, how sure, and a list of the demands; Markdown."""
    demands = "\n".join(f"- {line}" for line in rule_lines(model))
    return f"{rule_intro(model.promotion)}\n\n{demands}"


def rule_lines(model: Model) -> list[str]:
    """What a candidate must be, a line for each demand of `promotion`; Markdown."""
    rule = model.promotion
    parts = (
        _production(rule), _slices(rule, model.evaluation.slices), _heuristic(rule), _first(rule), _own_methods(rule)
    )  # fmt: skip
    return [line for part in parts for line in part]


def rule_intro(rule: Promotion) -> str:
    """On which rows, by what, and how sure the comparison must be."""
    return (
        f"After the compliance check, by {rule.metric}, on at least {rule.minimum_rows:,} labelled rows that neither "
        f"the candidate nor the version in production has trained on. *Shown* allows an error of "
        f"{100 * rule.alpha:g} % (`promotion.alpha`). The candidate must be"
    )


def _production(rule: Promotion) -> Iterator[str]:
    if "holdout" not in rule.methods:
        yield "compared with no version in production: `promotion.methods` leaves `holdout` out"
        return
    if rule.rule is PromotionRule.SUPERIOR:
        by = f" by more than {rule.better_by:g}" if rule.better_by else ""
        yield f"shown to be better than the version in production{by} (rule {code(rule.rule)})"
    else:
        at_most = f"by at most {rule.not_worse_by:g}"
        yield f"shown to be worse than the version in production {at_most} (rule {code(rule.rule)})"
    for metric, margin in rule.guard_metrics.items():
        yield f"shown to be worse than it by at most {margin:g} in {code(metric)} (a guard metric)"
    if rule.if_production_fails == "heuristic":
        yield "held against the heuristic alone where the version in production cannot be asked any more"


def _slices(rule: Promotion, declared: Sequence[str]) -> Iterator[str]:
    asked, columns = rule.slices, ", ".join(map(code, declared))
    if "holdout" not in rule.methods or not columns:
        return
    if asked.margin is None and not asked.margins:
        yield f"compared on the slices of {columns}, too, which only warn (no margin is declared)"
        return
    within = "shown to be within" if asked.blocks == "not_shown_safe" else "not shown to be beyond"
    yield f"{within} what it may be worse by on the slices of {columns}: {_margins(asked)}{_small(asked)}"


def _margins(asked: SliceRule) -> str:
    single = [f"{margin:g} on {code(name)}" for name, margin in asked.margins.items()]
    others = "others only warn" if asked.margin is None else f"{asked.margin:g} on {'others' if single else 'each'}"
    return ", ".join([*single, others])


def _small(asked: SliceRule) -> str:
    """Of which slices nothing need be shown."""
    if asked.blocks != "not_shown_safe" or asked.margin is None:
        return ""
    others = " others" if asked.margins else ""
    return f" (not asked of{others or ' slices'} with fewer than {asked.minimum_rows:,} labelled rows)"


def _heuristic(rule: Promotion) -> Iterator[str]:
    if "heuristic" in rule.methods:
        yield f"{_better_than_heuristic(rule)}: {code(rule.heuristic) if rule.heuristic else 'the mean training label'}"


def _better_than_heuristic(rule: Promotion) -> str:
    if rule.rule is PromotionRule.SUPERIOR:
        return "shown to be better than the heuristic"
    return "better than the heuristic on these rows"


def _first(rule: Promotion) -> Iterator[str]:
    if rule.better_by > 0 and "heuristic" in rule.methods:
        yield f"as the first version, {_better_than_heuristic(rule)} by more than {rule.better_by:g}"
    for metric, bound in rule.first_bounds.items():
        yield f"as the first version, of a {code(metric)} of {_limits(bound)}"


def _limits(bound: Bound) -> str:
    limits = (("at least", bound.min), ("at most", bound.max))
    return " and ".join(f"{word} {value:g}" for word, value in limits if value is not None) or "any value"


def _own_methods(rule: Promotion) -> Iterator[str]:
    for name in rule.methods:
        if "." in name:
            yield f"let in by the project's own method {code(name)}"
