"""The gate of a batch: validated, reported, its bad rows in quarantine; or stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from penstock.clock import now
from penstock.errors import GateError
from penstock.gates import Outcome
from penstock.quality.history import history_checks
from penstock.quality.quarantine import quarantine_rows, read_entries
from penstock.quality.release import accepted_rows, close_replaced
from penstock.quality.report import write_report
from penstock.quality.statistics import measure, read_statistics, write_statistics
from penstock.quality.suite import load_suite
from penstock.quality.validation import BatchResult, good_rows, validate_batch
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Column
from penstock.spec.suite import History
from penstock.workspace import Workspace

_Frame = TypeVar("_Frame")
_MOST_OF_A_REASON = 2000


def check_batch(
    workspace: Workspace, project: LoadedProject, table: str, frame: _Frame, columns: Mapping[str, Column],
    keys: Sequence[str], expectations: str | None, as_of: datetime, *, is_usual: bool = True,
) -> tuple[_Frame, int]:  # fmt: skip
    """The rows of a batch that may go on (a pandas frame keeps its index), and how many went to quarantine.

    `expectations` is the suite's file, relative to the project's folder. A batch that is not as others are (a piece
    of a backfill) is not held against the table's history. Raises GateError where the table
    must stop: the report says why, nothing is put into quarantine. Raises SpecError for a broken suite.
    """
    suite = load_suite(project.folder / expectations) if expectations else None
    read_at = now()
    accepted = accepted_rows(read_entries(workspace, project.name, table), columns)
    result = validate_batch(frame, suite, keys, table, columns, accepted=accepted)  # type: ignore[arg-type]
    if suite is not None and suite.history is not None and is_usual and result.passed:
        result = _held_against_history(workspace, project, table, frame, result, suite.history, columns, keys, as_of)
    report = write_report(workspace, project.name, table, result, as_of)
    if not result.passed:
        failed = [check.detail for check in result.verdict.checks if check.outcome is Outcome.FAIL]
        raise GateError(
            f"{project.name}.{table} stops, its {result.rows} new rows did not pass: "
            f"{'; '.join(failed)[:_MOST_OF_A_REASON]} (report: {report})"
        )
    quarantine_rows(workspace, project.name, table, result.bad_rows, as_of, found_at=read_at)
    good = good_rows(frame, result, keys)
    close_replaced(workspace, project.name, table, good, keys, columns, as_of)  # type: ignore[arg-type]
    return good, result.bad_count


def _held_against_history(
    workspace: Workspace, project: LoadedProject, table: str, frame: _Frame, result: BatchResult, history: History,
    columns: Mapping[str, Column], keys: Sequence[str], as_of: datetime,
) -> BatchResult:  # fmt: skip
    """The result with checks of its good rows against earlier batches; their figures are stored for later ones."""
    spec = project.spec
    clock = spec.sources[table].available_at if table in spec.sources else spec.feature_tables[table].event_time
    past = read_statistics(workspace, project.name, table, as_of, history.batches)
    before = past["as_of"].max().to_pydatetime() if len(past) else None
    found = measure(good_rows(frame, result, keys), columns, clock, as_of, before)  # type: ignore[arg-type]
    checks = (*result.verdict.checks, *history_checks(history, found, past))
    verdict = replace(result.verdict, checks=checks)
    write_statistics(workspace, project.name, table, found, as_of, verdict.outcome)
    return replace(result, verdict=verdict)
