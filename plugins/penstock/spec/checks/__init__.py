"""Checks of a specification beyond its shape.

`check_references` and `check_environment` read declarations only and run on every load;
`check_files` reads SQL, Python and suites too, looks for databases' drivers, and runs in `penstock validate`.
"""

from collections.abc import Iterator, Mapping

from penstock.spec.checks.environments import check_environment
from penstock.spec.checks.models import check_models
from penstock.spec.checks.promotion import check_promotion
from penstock.spec.checks.rules import check_rules
from penstock.spec.checks.scope import Scope
from penstock.spec.checks.tables import check_tables
from penstock.spec.faults import Fault
from penstock.spec.loading import ReadProject

__all__ = ["check_environment", "check_files", "check_references"]


def check_references(
    read: ReadProject, others: Mapping[str, ReadProject] | None = None, roots: frozenset[str] | None = None
) -> Iterator[Fault]:
    """What refers to something that does not exist or does not fit.

    Without `others` (all projects by name) and `roots` (names of read-only roots), references beyond the
    project are not followed.
    """
    scope = _scope(read, others, roots)
    if scope is not None:
        yield from check_tables(scope)
        yield from check_models(scope)
        yield from check_rules(scope)
        yield from check_promotion(scope)


def check_files(
    read: ReadProject, others: Mapping[str, ReadProject] | None = None, roots: frozenset[str] | None = None
) -> Iterator[Fault]:
    """The faults of SQL (by sqlglot), Python functions (by their syntax trees), suites and addresses of databases."""
    from penstock.spec.checks.expressions import check_expressions
    from penstock.spec.checks.functions import check_functions
    from penstock.spec.checks.queries import check_queries
    from penstock.spec.checks.sinks import check_sinks
    from penstock.spec.checks.suites import check_suites

    scope = _scope(read, others, roots)
    if scope is not None:
        yield from check_functions(scope)
        yield from check_suites(scope)
        yield from check_queries(scope)
        yield from check_expressions(scope)
        yield from check_sinks(scope)


def _scope(read: ReadProject, others: Mapping[str, ReadProject] | None, roots: frozenset[str] | None) -> Scope | None:
    if read.spec is None:
        return None
    return Scope(read.spec, read.document, read.broken, others, roots)
