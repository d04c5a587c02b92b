"""Runs a suite with Great Expectations, on a pandas or a Spark Connect batch, and says what it found."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.quality.suite import ExpectationSpec, Level, build, import_great_expectations

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch
    from pyspark.sql.connect.dataframe import DataFrame

_CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"


@dataclass(frozen=True)
class Finding:
    """What one expectation found.

    `problem` says why it could not be evaluated. `unexpected` points at the rows that failed: positions
    in a pandas batch, dictionaries of key values in a Spark batch. `observed` is a table-level value.
    """

    expectation: ExpectationSpec
    held: bool
    problem: str | None = None
    judged: int = 0
    unexpected: tuple[Any, ...] = ()
    observed: Any = None


def examine_pandas(frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec]) -> list[Finding]:
    """The findings on a DataFrame whose index is 0 to n-1."""
    source = _context().data_sources.add_pandas("batch")
    definition = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("whole")
    return _validate(definition.get_batch({"dataframe": frame}), expectations, {})


def examine_spark(frame: "DataFrame", expectations: Sequence[ExpectationSpec], keys: Sequence[str]) -> list[Finding]:
    """The findings on a Spark Connect DataFrame; failing rows are named by their keys."""
    with _active(frame):
        source = _context().data_sources.add_spark("batch")
        definition = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("whole")
        return _validate(
            definition.get_batch({"dataframe": frame}), expectations,
            {"unexpected_index_column_names": list(keys)},
        )  # fmt: skip


def _context() -> Any:
    import_great_expectations()
    import great_expectations

    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _validate(batch: "Batch", expectations: Sequence[ExpectationSpec], options: dict[str, Any]) -> list[Finding]:
    from great_expectations import ExpectationSuite

    suite = ExpectationSuite(name="suite")
    # The library answers in an order of its own and merges what is written twice: `meta` says which is which.
    for place, spec in enumerate(expectations):
        expectation = build(spec)
        expectation.meta = {"place": place}
        suite.expectations.append(expectation)
    result = batch.validate(suite, result_format={"result_format": "COMPLETE", **options})
    found = {item.expectation_config.meta["place"]: item for item in result.results}
    return [_finding(spec, found[place]) for place, spec in enumerate(expectations)]


def _finding(spec: ExpectationSpec, result: "ExpectationValidationResult") -> Finding:
    problem = _problem(result.exception_info)
    if problem is not None:
        return Finding(spec, held=False, problem=problem)
    details = result.result
    unexpected = details.get("unexpected_index_list") or [] if spec.level is Level.ROW else []
    return Finding(
        spec, held=bool(result.success), judged=int(details.get("element_count", 0)),
        unexpected=tuple(unexpected), observed=details.get("observed_value"),
    )  # fmt: skip


def _problem(info: Any) -> str | None:
    """The first message of what was raised; the library nests one report per metric, or gives just one."""
    reports = [info] if info and "raised_exception" in info else list((info or {}).values())
    for report in reports:
        if report.get("raised_exception"):
            lines = str(report.get("exception_message") or "").strip().splitlines()
            return (lines[0] if lines else _last_line(report))[:300]
    return None


def _last_line(report: dict[str, Any]) -> str:
    lines = str(report.get("exception_traceback") or "").strip().splitlines()
    return lines[-1] if lines else "an unknown error"


@contextmanager
def _active(frame: "DataFrame") -> Iterator[None]:
    """Makes the frame's session the one that the library finds, and pyspark.sql.functions build for Connect."""
    from pyspark.sql.connect.session import SparkSession

    thread = SparkSession._active_session
    before, mode = getattr(thread, "session", None), os.environ.get(_CONNECT_MODE)
    thread.session = frame.sparkSession
    os.environ[_CONNECT_MODE] = "1"
    try:
        yield
    finally:
        thread.session = before
        if mode is None:
            del os.environ[_CONNECT_MODE]
