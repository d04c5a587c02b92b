"""A suite of expectations: one YAML file beside a project, read and checked.

description: What the batch is.            # optional
acceptable_bad_share: 0.1                  # optional: more bad rows than that stop the table
expectations:
  - type: expect_column_values_to_be_between
    kwargs: {column: temp, min_value: -30, max_value: 120}
    severity: warning                      # critical by default
    description: Degrees Fahrenheit.       # optional
"""

import difflib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import SpecError
from penstock.spec.documents import read_document
from penstock.spec.shapes import Fit, fit
from penstock.spec.suite import Expectation, History, Severity, SuiteFile, WithinMostly

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation as LibraryExpectation


class Level(StrEnum):
    """What an expectation judges: each row, or the table as a whole (which always stops it)."""

    ROW = "row"
    TABLE = "table"


@dataclass(frozen=True)
class ExpectationSpec:
    """One expectation of a suite; `columns` are those that it names, `line` is where it stands."""

    type: str
    kwargs: dict[str, Any]
    severity: Severity
    level: Level
    description: str
    line: int
    within_mostly: WithinMostly = WithinMostly.KEEP

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return columns_of(self.kwargs)

    @property
    def name(self) -> str:
        """For people: `expect_column_values_to_be_between(temp)`."""
        return f"{self.type}({', '.join(self.columns)})"


@dataclass(frozen=True)
class Suite:
    """The expectations of one table, in the file's order."""

    name: str
    path: Path
    expectations: tuple[ExpectationSpec, ...]
    acceptable_bad_share: float = 1.0
    description: str = ""
    history: History | None = None

    @property
    def columns(self) -> dict[str, int]:
        """Every column that is named, with the line of its first expectation."""
        lines: dict[str, int] = {}
        for expectation in self.expectations:
            for column in expectation.columns:
                lines.setdefault(column, expectation.line)
        return lines


# They need a database beside the batch.
_UNSUPPORTED = (
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
    "unexpected_rows_expectation",
)
_NOT_KWARGS = (
    "severity", "description", "meta", "notes", "id", "result_format", "windows", "batch_id", "catch_exceptions",
    "rendered_content",
)  # fmt: skip


def load_suite(path: str | Path) -> Suite:
    """Reads a suite and checks that Great Expectations knows its types and arguments.

    Raises SpecError that lists every fault with file, line and what to write.
    """
    document = read_document(Path(path))
    fitted = fit(document, document.data, SuiteFile) if document.data is not None else Fit(None)
    content = fitted.spec
    if content is None or document.faults:
        raise SpecError("\n".join(fault.render() for fault in (*document.faults, *fitted.faults)))
    import_great_expectations()
    faults: list[str] = []
    found = []
    for place, item in enumerate(content.expectations):
        line = document.line(("expectations", place))
        try:
            found.append(_expectation(item, line))
        except ValueError as error:
            faults.append(f"{path}:{line}: {error}")
    if faults:
        raise SpecError("\n".join(faults))
    return Suite(
        document.file.stem, document.file, tuple(found), content.acceptable_bad_share, content.description,
        content.history,
    )  # fmt: skip


def columns_of(kwargs: dict[str, Any]) -> tuple[str, ...]:
    """The columns that an expectation's arguments name."""
    single = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    several = kwargs.get("column_list") or kwargs.get("column_set") or []
    return tuple(str(name) for name in [*single, *several])


def import_great_expectations() -> None:
    """Imports the library without its analytics, which it would send on import."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations.expectations  # noqa: F401


def build(expectation: ExpectationSpec) -> "LibraryExpectation":
    """The library's object for an expectation."""
    from great_expectations.expectations.registry import get_expectation_impl

    built: LibraryExpectation = get_expectation_impl(expectation.type)(
        **expectation.kwargs, severity=str(expectation.severity)
    )
    return built


def _expectation(item: Expectation, line: int) -> ExpectationSpec:
    from great_expectations.compatibility.pydantic import ValidationError as ArgumentError

    kind, level = _implementation(item.type)
    known = [name for name in kind.__fields__ if name not in _NOT_KWARGS]
    for name in item.kwargs:
        if name in ("severity", "description"):
            raise ValueError(f"{item.type}: write {name} beside kwargs, not in it")
        if name not in known:
            raise ValueError(f"{item.type} has no argument {name!r}{_closest(name, known)}; it has: {', '.join(known)}")
    kwargs = dict(item.kwargs)
    if "ignore_row_if" in known:
        # The pandas engine counts a pair with one null as a failure, Spark does not: both leave it alone.
        pair = "column_A" in known
        kwargs.setdefault("ignore_row_if", "either_value_is_missing" if pair else "any_value_is_missing")
    spec = ExpectationSpec(
        item.type, kwargs, item.severity, level, item.description, line,
        item.within_mostly,
    )  # fmt: skip
    try:
        build(spec)
    except ArgumentError as error:
        said = "; ".join(dict.fromkeys(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()))
        raise ValueError(f"{item.type}: {said.replace('__root__: ', '')}") from error
    return spec


def _implementation(name: str) -> "tuple[type[LibraryExpectation], Level]":
    from great_expectations.expectations import expectation, registry

    supported = [known for known in registry.list_registered_expectation_implementations() if known not in _UNSUPPORTED]
    if name not in supported:
        raise ValueError(f"unknown expectation {name!r}{_closest(name, supported)}")
    kind = registry.get_expectation_impl(name)
    by_row = (
        expectation.ColumnMapExpectation, expectation.ColumnPairMapExpectation, expectation.MulticolumnMapExpectation,
    )  # fmt: skip
    return kind, Level.ROW if issubclass(kind, by_row) else Level.TABLE


def _closest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else ""
