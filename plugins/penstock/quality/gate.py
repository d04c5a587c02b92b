"""The gate of a batch: validated, reported, its bad rows in quarantine; or stopped."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from penstock.errors import GateError
from penstock.gates import Outcome
from penstock.quality.quarantine import quarantine_rows, read_entries
from penstock.quality.release import accepted_rows, close_replaced
from penstock.quality.report import write_report
from penstock.quality.suite import load_suite
from penstock.quality.validation import good_rows, validate_batch
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Column
from penstock.workspace import Workspace

_Frame = TypeVar("_Frame")
_MOST_OF_A_REASON = 2000


def check_batch(
    workspace: Workspace, project: LoadedProject, table: str, frame: _Frame, columns: Mapping[str, Column],
    keys: Sequence[str], expectations: str | None, as_of: datetime,
) -> tuple[_Frame, int]:  # fmt: skip
    """The rows of a batch that may go on (a pandas frame keeps its index), and how many went to quarantine.

    `expectations` is the suite's file, relative to the project's folder. Raises GateError where the table
    must stop: the report says why, nothing is put into quarantine. Raises SpecError for a broken suite.
    """
    suite = load_suite(project.folder / expectations) if expectations else None
    entries = read_entries(workspace, project.name, table)
    accepted = accepted_rows(entries, columns)
    result = validate_batch(frame, suite, keys, table, columns, accepted=accepted)  # type: ignore[arg-type]
    report = write_report(workspace, project.name, table, result, as_of)
    if not result.passed:
        failed = [check.detail for check in result.verdict.checks if check.outcome is Outcome.FAIL]
        raise GateError(
            f"{project.name}.{table} stops, its {result.rows} new rows did not pass: "
            f"{'; '.join(failed)[:_MOST_OF_A_REASON]} (report: {report})"
        )
    quarantine_rows(workspace, project.name, table, result.bad_rows, as_of)
    good = good_rows(frame, result, keys)
    close_replaced(workspace, project.name, entries, good, keys, columns, as_of)  # type: ignore[arg-type]
    return good, result.bad_count
