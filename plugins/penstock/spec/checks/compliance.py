"""What a model's versions must comply with: names of checks, forbidden columns, the project's own checks."""

from collections.abc import Iterable, Iterator, Mapping

from penstock.spec.checks.scope import Scope
from penstock.spec.compliance import Severity
from penstock.spec.faults import Fault, YamlPath, suggestion
from penstock.spec.faults import Severity as FaultSeverity
from penstock.spec.names import COMPLIANCE_CHECKS, ENVIRONMENTS_COMPLIANCE_CHECKS, FIXED_COMPLIANCE_CHECKS
from penstock.spec.project import Model


def check_model_compliance(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    """The faults of `promotion.compliance`."""
    asked, path = model.promotion.compliance, (*path, "promotion", "compliance")
    for place, message, remedy in severity_faults(asked.severities, asked.own):
        yield scope.fault((*path, *place), message, remedy)
    for name, severity in asked.severities.items():
        if name in ENVIRONMENTS_COMPLIANCE_CHECKS and severity is not Severity.BLOCK:
            meant = f"compliance: {{severities: {{{name}: {severity}}}}}"
            yield scope.fault(
                (*path, "severities", name), f"{severity} counts in dev only: elsewhere the environment judges {name}",
                f"if it is meant for another environment, write {meant} into its file", FaultSeverity.WARNING,
            )  # fmt: skip
    for name in asked.own:
        if name in COMPLIANCE_CHECKS:
            yield scope.fault((*path, "own", name), f"{name!r} is a built-in check", "give it another name")
    for index, text in enumerate(asked.forbidden_columns):
        table, _, column = text.rpartition(".")
        found, place = scope.find(table), (*path, "forbidden_columns", index)
        if found.problem is not None:
            yield scope.fault(place, *found.problem)
        elif found.table is not None and column not in found.table.columns:
            yield scope.unknown_column(place, column, found.table.columns, table)


def severity_faults(severities: Mapping[str, Severity], own: Iterable[str] = ()) -> Iterator[tuple[YamlPath, str, str]]:
    """(place, message, remedy) of severities for checks that there are not, or that have none but their own."""
    known = [*COMPLIANCE_CHECKS, *own]
    for name in severities:
        if name not in known:
            yield ("severities", name), f"there is no compliance check {name!r}", suggestion(name, known, "checks")
        elif name in FIXED_COMPLIANCE_CHECKS:
            yield ("severities", name), f"the check {name} always blocks", "remove its severity"
