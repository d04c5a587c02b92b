"""Runs a suite with Great Expectations, on a pandas or a Spark Connect batch, and says what it found."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import EPOCH
from penstock.quality.narrowing import parts
from penstock.quality.suite import ExpectationSpec, Level, build, import_great_expectations
from penstock.spec.sql import quote
from penstock.spec.suite import WithinMostly

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

    @property
    def sets_rows_apart(self) -> bool:
        """Whether the rows that failed may not go on: it did not hold, or its author wants them apart anyway."""
        return bool(self.unexpected) and (not self.held or self.expectation.within_mostly is WithinMostly.QUARANTINE)


def examine_pandas(frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec]) -> list[Finding]:
    """The findings on a DataFrame whose index is 0 to n-1."""
    import numpy as np

    found: dict[int, Finding] = {}
    for part in parts(frame, expectations):
        specs = [expectations[place] for place in part.places]
        by_row = all(spec.level is Level.ROW for spec in specs)
        nothing_fails = by_row and part.frame.empty
        judged = [Finding(spec, held=True) for spec in specs] if nothing_fails else _examine_part(part.frame, specs)
        for place, finding in zip(part.places, judged, strict=True):
            positions = part.locate(np.asarray(finding.unexpected, dtype=np.int64)) if finding.unexpected else ()
            found[place] = replace(
                finding, expectation=expectations[place], unexpected=tuple(int(position) for position in positions)
            )
    return [found[place] for place in range(len(expectations))]


def _examine_part(frame: "pd.DataFrame", expectations: Sequence[ExpectationSpec]) -> list[Finding]:
    source = _context().data_sources.add_pandas("batch")
    definition = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("whole")
    comparable = [_with_comparable_bounds(spec, frame) for spec in expectations]
    return _validate(definition.get_batch({"dataframe": _widened(frame)}), comparable, {})


def _with_comparable_bounds(spec: ExpectationSpec, frame: "pd.DataFrame") -> ExpectationSpec:
    """Bounds of moments and days as pandas compares them: Spark takes texts, dates and moments without a zone as UTC.

    Of a moment and a day, pandas refuses to say which is the later.
    """
    import pandas as pd

    if not spec.type.endswith("_to_be_between") or len(spec.columns) != 1 or spec.columns[0] not in frame.columns:
        return spec
    series = frame[spec.columns[0]]
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        convert: Callable[[Any], Any] = lambda bound: pd.to_datetime(bound, utc=True)  # noqa: E731
    elif pd.api.types.infer_dtype(series, skipna=True) == "date":
        convert = lambda bound: pd.Timestamp(bound).date()  # noqa: E731
    else:
        return spec
    bounds = {name: convert(spec.kwargs[name]) for name in ("min_value", "max_value") if spec.kwargs.get(name)}
    return replace(spec, kwargs={**spec.kwargs, **bounds})


def examine_spark(frame: "DataFrame", expectations: Sequence[ExpectationSpec], keys: Sequence[str]) -> list[Finding]:
    """The findings on a Spark Connect DataFrame; failing rows are named by their keys.

    The library collects keys as Rows, whose moments are ambiguous: those of the key go beside it as microseconds.
    """
    from pyspark.sql.connect import functions as F

    moments = {key: f"penstock_micros_{key}" for key, kind in frame.dtypes if key in keys and kind == "timestamp"}
    micros = {name: F.unix_micros(F.col(quote(key))) for key, name in moments.items()}
    named = frame.withColumns(micros) if micros else frame
    of_rows = [spec for spec in expectations if spec.level is Level.ROW]
    of_table = [spec for spec in expectations if spec.level is not Level.ROW]
    found = {
        **_examine_there(named, of_rows, [moments.get(key, key) for key in keys]),
        **_examine_there(frame, of_table, []),
    }
    return [_with_moments(found[id(spec)], moments) for spec in expectations]


def _examine_there(
    frame: "DataFrame", expectations: Sequence[ExpectationSpec], keys: Sequence[str]
) -> dict[int, Finding]:  # fmt: skip
    """The findings by the identity of their expectations."""
    if not expectations:
        return {}
    with _active(frame):
        source = _context().data_sources.add_spark("batch")
        definition = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("whole")
        options = {"unexpected_index_column_names": list(keys)} if keys else {}
        findings = _validate(definition.get_batch({"dataframe": frame}), expectations, options)
    return {id(spec): finding for spec, finding in zip(expectations, findings, strict=True)}


def _with_moments(finding: Finding, moments: Mapping[str, str]) -> Finding:
    def exact(row: Mapping[str, Any]) -> dict[str, Any]:
        micros = {key: row[name] for key, name in moments.items()}
        times = {key: None if n is None else EPOCH + timedelta(microseconds=n) for key, n in micros.items()}
        return {**row, **times}

    return replace(finding, unexpected=tuple(exact(row) for row in finding.unexpected)) if moments else finding


def _widened(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Numbers as int64 or float64: Great Expectations compares all others one by one, ten times as slowly."""
    from pandas.api.types import is_bool_dtype, is_extension_array_dtype, is_integer_dtype, is_numeric_dtype

    types = {}
    for name, series in frame.items():
        if not is_numeric_dtype(series.dtype) or is_bool_dtype(series.dtype):
            continue
        whole = is_integer_dtype(series.dtype) and not (is_extension_array_dtype(series.dtype) and series.hasnans)
        types[name] = "int64" if whole else "float64"
    return frame.astype(types)


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
