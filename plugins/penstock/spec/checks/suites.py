"""Suites of expectations: found, well-formed, known expectations over columns that the table has."""

from collections.abc import Iterator

from penstock.spec.checks.queries import project_file
from penstock.spec.checks.scope import Scope, Table
from penstock.spec.documents import Document, read_document
from penstock.spec.faults import Fault, YamlPath, suggestion
from penstock.spec.project import Source
from penstock.spec.shapes import fit
from penstock.spec.suite import EXPECTATIONS, Expectation, SuiteFile, column_arguments

_NAMES_ONE = ("column", "column_A", "column_B")
_NAMES_SEVERAL = ("column_list", "column_set")


def check_suites(scope: Scope) -> Iterator[Fault]:
    """The faults of every suite."""
    for path, name, table in scope.tables:
        if table.expectations is None:
            continue
        if isinstance(table, Source) and table.land is None:
            yield scope.fault(
                (*path, "expectations"),
                f"others fill {name}: its rows are there before a suite could be held against them",
                "write a land function, or the expectations of the feature tables that read it",
            )
        file = yield from project_file(scope, (*path, "expectations"), table.expectations)
        if file is None:
            continue
        document = read_document(file)
        yield from document.faults
        if document.data is None:
            continue
        fitted = fit(document, document.data, SuiteFile)
        yield from fitted.faults
        for index, expectation in enumerate(fitted.spec.expectations if fitted.spec is not None else ()):
            yield from _expectation(document, ("expectations", index), expectation, table, name)


def _expectation(
    document: Document, path: YamlPath, expectation: Expectation, table: Table, name: str
) -> Iterator[Fault]:
    if expectation.type not in EXPECTATIONS:
        hint = suggestion(expectation.type, EXPECTATIONS, "expectations")
        yield document.fault((*path, "type"), f"there is no expectation {expectation.type!r}", hint)
        return
    for argument in column_arguments(expectation.type):
        if argument not in expectation.kwargs:
            message = f"{expectation.type} needs the argument {argument}"
            yield document.fault(path, message, f"write kwargs: {{{argument}: …}}")
    for place, column in _columns(path, expectation):
        if column not in table.columns:
            hint = suggestion(str(column), table.columns, "columns")
            yield document.fault(place, f"{name} has no column {column!r}", hint)


def _columns(path: YamlPath, expectation: Expectation) -> Iterator[tuple[YamlPath, object]]:
    for argument in _NAMES_ONE:
        if argument in expectation.kwargs:
            yield (*path, "kwargs", argument), expectation.kwargs[argument]
    for argument in _NAMES_SEVERAL:
        several = expectation.kwargs.get(argument)
        for index, column in enumerate(several if isinstance(several, list) else ()):
            yield (*path, "kwargs", argument, index), column
