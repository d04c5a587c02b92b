"""The operator of quarantine_release."""

from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import Context, Param

from penstock.clock import to_text
from penstock.errors import SpecError
from penstock.operators.base import PenstockOperator, emit
from penstock.operators.links import ReportLink
from penstock.workspace import Workspace

RELEASE_PARAMS = {
    "table": Param("", type="string", minLength=1, title="table", description="A source or feature table."),
    "action": Param(
        "accept", type="string", enum=["accept", "correct"], title="action",
        description="accept: the rows flow in as they are. correct: the file's rows take their place.",
    ),
    "rows": Param(
        None, type=["null", "array"], items={"type": "string"}, title="rows",
        description="Ids as `penstock quarantine list` shows them. Empty: all open rows of the table.",
    ),
    "file": Param(
        None, type=["null", "string"], title="file", description="correct: a CSV or Parquet file that the worker reads."
    ),
    "reason": Param("", type="string", minLength=1, title="reason", description="Why; kept with the rows."),
}  # fmt: skip


class ReleaseRowsOperator(PenstockOperator):
    """Releases rows from quarantine by the run's parameters. XCom: table, outcome, released, before, without_key.

    The event of its outlets starts the refresh that takes them up.
    """

    operator_extra_links = (ReportLink(),)

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.quality.release.accept_rows or correct_rows."""
        from penstock.quality.release import accept_rows, correct_rows, read_corrections

        params = context["params"]
        table, reason, by = str(params["table"]), str(params["reason"]), _who(context)
        ReportLink.store(context, self.project, table)
        if params["action"] == "accept":
            ids = [str(name) for name in params["rows"]] if params["rows"] else None
            release = accept_rows(workspace, self.project, table, ids, reason, by)
        elif params["file"]:
            frame = read_corrections(workspace, self.project, table, Path(params["file"]))
            release = correct_rows(workspace, self.project, table, frame, reason, by)
        else:
            raise SpecError("which corrected rows? Give the parameter `file`: a CSV or Parquet file")
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of))
        return release


def _who(context: Context) -> str:
    """The user who started the run, where Airflow says so; the run otherwise."""
    run = context["dag_run"]
    return getattr(run, "triggering_user_name", None) or f"{run.dag_id}/{run.run_id}"
