"""Validates a batch: what its declaration promises, then its suite of expectations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, cast

from penstock.gates import Outcome, Verdict
from penstock.lakehouse.small_tables import exact_frame
from penstock.quality.batches import Batch, PandasBatch, SparkBatch, at_keys
from penstock.quality.checks import (
    accepted_check,
    bad_share_check,
    columns_check,
    duplicate_keys_check,
    finding_check,
    null_keys_check,
    types_check,
)
from penstock.quality.findings import Finding
from penstock.quality.rows import BadRow, plain
from penstock.quality.suite import ExpectationSpec, Level, Suite
from penstock.spec.project import Column, ColumnType

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame

GATE = "data_quality"
# Below it, rows travel to pandas: 20,000 rows take 1 s there and 10 s in the Spark engine's many queries, and a
# million is still faster. Above it, they would take gigabytes of memory.
SPARK_FROM_ROWS = 2_000_000
NOT_NULL_KEY = "key_not_null"

_Frame = TypeVar("_Frame")
_Accepted = Callable[[BadRow], bool] | None


class Engine(StrEnum):
    """Where expectations are evaluated."""

    PANDAS = "pandas"
    SPARK = "spark"


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch of `rows` rows: the verdict, and the rows that do not go on.

    Where the verdict fails, none of the rows may go on; `bad_rows` then shows what was found.
    """

    table: str
    rows: int
    verdict: Verdict
    bad_rows: tuple[BadRow, ...]
    engine: Engine

    @property
    def passed(self) -> bool:
        """Whether the good rows may go on."""
        return self.verdict.passed

    @property
    def bad_count(self) -> int:
        """How many rows failed."""
        return len(self.bad_rows)

    @property
    def good_count(self) -> int:
        """How many rows hold every expectation."""
        return self.rows - len(self.bad_rows)


def validate_batch(
    frame: "pd.DataFrame | DataFrame", suite: Suite | None, keys: Sequence[str], table: str,
    columns: Mapping[str, Column] | None = None, engine: Engine | None = None,
    accepted: Callable[[BadRow], bool] | None = None,
) -> BatchResult:  # fmt: skip
    """Judges a batch of `table`: a pandas DataFrame, or a Spark Connect one (by Spark where it is large).

    Always checked: `columns` (the declaration) are there with their types, `keys` are neither null (such
    rows are bad) nor repeated within the batch (the table stops). Then the suite: rows that fail a
    row-level expectation of severity warning are bad; a critical failure stops the table, a warning about the
    table as a whole is reported.
    An empty batch passes, unless the suite expects a number of rows. A row with a key that `accepted` says yes to
    goes on, whatever fails.
    """
    declared = {name: column.type for name, column in (columns or {}).items()}
    if not hasattr(frame, "sparkSession"):
        batch = PandasBatch(cast("pd.DataFrame", frame), declared)
        return _judge(batch, suite, list(keys), table, declared, Engine.PANDAS, accepted)
    return _validate_on_server(cast("DataFrame", frame), suite, list(keys), table, declared, engine, accepted)


def good_rows(frame: _Frame, result: BatchResult, keys: Sequence[str]) -> _Frame:
    """The rows of the batch that go on; a pandas frame keeps its index."""
    if not result.bad_rows:
        return frame
    if hasattr(frame, "sparkSession"):
        references = {tuple(row.keys[key] for key in keys) for row in result.bad_rows}
        spark = cast("DataFrame", frame)
        return cast("_Frame", at_keys(spark, keys, sorted(references, key=str), "left_anti"))
    import numpy as np

    kept = np.ones(result.rows, dtype=bool)
    kept[[row.position for row in result.bad_rows if row.position is not None]] = False
    return cast("_Frame", cast("pd.DataFrame", frame)[kept])


def _validate_on_server(
    frame: "DataFrame", suite: Suite | None, keys: list[str], table: str,
    declared: dict[str, ColumnType], engine: Engine | None, accepted: _Accepted,
) -> BatchResult:  # fmt: skip
    frame = frame.persist()
    try:
        rows = frame.count()
        if (engine or (Engine.SPARK if rows >= SPARK_FROM_ROWS else Engine.PANDAS)) is Engine.SPARK:
            batch = SparkBatch(frame, declared, keys, rows)
            return _judge(batch, suite, keys, table, declared, Engine.SPARK, accepted)
        local = PandasBatch(exact_frame(frame.toArrow()), declared)
        return _judge(local, suite, keys, table, declared, Engine.PANDAS, accepted)
    finally:
        frame.unpersist()


def _judge(
    batch: Batch, suite: Suite | None, keys: list[str], table: str, declared: dict[str, ColumnType],
    engine: Engine, accepted: _Accepted,
) -> BatchResult:  # fmt: skip
    checks = [columns_check([*dict.fromkeys([*declared, *keys])], batch.columns, table)]
    if checks[0].outcome is Outcome.PASS and batch.rows:
        checks.append(types_check(batch.wrong_types(declared), declared, table))
    if any(check.outcome is Outcome.FAIL for check in checks):
        # Expectations cannot be evaluated, nor rows told apart, on columns that are not what they should be.
        return BatchResult(table, batch.rows, Verdict(GATE, table, tuple(checks)), (), engine)
    nulls = batch.null_keys(keys) if batch.rows else []
    checks.append(null_keys_check(nulls, keys, batch.rows))
    checks.append(duplicate_keys_check(*batch.duplicate_keys(keys, most=5) if batch.rows else (0, []), keys, table))
    findings = _examine(batch, suite)
    bad = batch.fetch(_reasons(nulls, findings), keys)
    checks += [finding_check(finding, bad, batch.rows) for finding in findings]
    if accepted is not None:
        goes_on = [None not in row.keys.values() and accepted(row) for row in bad]
        checks += accepted_check([row for row, goes in zip(bad, goes_on, strict=True) if goes])
        bad = [row for row, goes in zip(bad, goes_on, strict=True) if not goes]
    if suite is not None:
        checks.append(bad_share_check(len(bad), batch.rows, suite.acceptable_bad_share))
    return BatchResult(table, batch.rows, Verdict(GATE, table, tuple(checks)), tuple(bad), engine)


def _examine(batch: Batch, suite: Suite | None) -> list[Finding]:
    expectations: Iterable[ExpectationSpec] = suite.expectations if suite else ()
    if not batch.rows:
        # Of no rows, only their number can be judged.
        expectations = [item for item in expectations if item.type.startswith("expect_table_row_count")]
    wanted = list(expectations)
    return batch.examine(wanted) if wanted else []


def _reasons(nulls: Sequence[tuple[Any, str]], findings: Sequence[Finding]) -> dict[Any, list[dict[str, Any]]]:
    """For each row that failed, why: null keys first, then the suite in its order."""
    reasons: dict[Any, list[dict[str, Any]]] = {}
    for reference, key in nulls:
        reason = {"expectation": NOT_NULL_KEY, "column": key, "kwargs": {}, "severity": "warning"}
        reasons.setdefault(reference, []).append(reason)
    for finding in findings:
        spec = finding.expectation
        if spec.level is Level.TABLE or not finding.sets_rows_apart:
            continue
        reason = {
            "expectation": spec.type, "column": ", ".join(spec.columns), "kwargs": plain(spec.kwargs),
            "severity": str(spec.severity),
        }  # fmt: skip
        for reference in dict.fromkeys(finding.unexpected):
            reasons.setdefault(reference, []).append(reason)
    return reasons
