"""The rule of promotion: whether its parts fit together. Reads only the declaration."""

from collections.abc import Iterator

from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, Severity, YamlPath, suggestion
from penstock.spec.names import COMPARISON_METHODS
from penstock.spec.project import Model, Promotion, PromotionRule
from penstock.spec.promotion import DAY, ROW, WEEK


def check_promotion(scope: Scope) -> Iterator[Fault]:
    """The faults of each model's rule of promotion."""
    for path, _, model in scope.models:
        place = (*path, "promotion")
        yield from _margins(scope, place, model.promotion)
        yield from _methods(scope, (*place, "methods"), model.promotion)
        yield from _resampling(scope, (*place, "resampling"), model)


def _margins(scope: Scope, path: YamlPath, rule: Promotion) -> Iterator[Fault]:
    superior = rule.rule is PromotionRule.SUPERIOR
    if superior and rule.not_worse_by:
        yield scope.fault(
            (*path, "not_worse_by"), "does not apply to the rule superior", "remove it, or write rule: non_inferior"
        )
    if superior and rule.better_by < 0:
        yield scope.fault(
            (*path, "better_by"),
            f"a candidate may be worse by {-rule.better_by:g} and replace production",
            f"if that is meant, write rule: non_inferior and not_worse_by: {-rule.better_by:g}",
            Severity.WARNING,
        )
    if not superior and not rule.not_worse_by:
        yield scope.fault(
            (*path, "rule"),
            "non_inferior without a margin asks as much as superior: nobody is shown to be worse by nothing at all",
            "add not_worse_by: the loss in the metric's unit that is worth fresher data",
        )
    if rule.detectable is not None and rule.detectable <= rule.threshold:
        yield scope.fault(
            (*path, "detectable"),
            f"{rule.detectable:g} is not above {rule.threshold:g}, which must be exceeded: no rows would be enough",
            "write a greater advantage, or lower the margin",
        )
    if rule.metric in rule.guard_metrics:
        yield scope.fault(
            (*path, "guard_metrics", rule.metric), f"{rule.metric!r} decides already", "remove it from guard_metrics"
        )


def _methods(scope: Scope, path: YamlPath, rule: Promotion) -> Iterator[Fault]:
    for index, name in enumerate(rule.methods):
        if "." not in name and name not in COMPARISON_METHODS:
            hint = suggestion(name, COMPARISON_METHODS, "methods")
            yield scope.fault((*path, index), f"there is no method {name!r}", f"{hint}, or a function of the project")
    yield from scope.repeated(path, rule.methods)
    if "heuristic" not in rule.methods:
        yield scope.fault(
            path, "without heuristic, the first version is held against nothing", "add heuristic", Severity.ERROR
        )


def _resampling(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    declared, known = model.promotion.resampling, (DAY, WEEK, ROW, *model.entity.keys, *model.entity.features)
    if declared is not None and declared not in known:
        yield scope.fault(
            path, f"{declared!r} is no key or feature of the entity", suggestion(declared, known, "units")
        )
