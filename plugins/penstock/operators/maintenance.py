"""Operators of table_maintenance."""

from datetime import datetime
from typing import Any

from airflow.sdk import Context

from penstock.operators.base import PenstockOperator
from penstock.workspace import Workspace


class MaintainTablesOperator(PenstockOperator):
    """Joins small files of a project's tables and removes what nobody needs. XCom: each table before and after.

    The run's parameters dry_run and retention (a duration such as 14d) apply.
    """

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.maintenance.maintain_project."""
        from penstock.maintenance import maintain_project, parse_retention

        params = context.get("params") or {}
        done = maintain_project(
            workspace, self.project, dry_run=bool(params.get("dry_run")),
            retention=parse_retention(params.get("retention")),
        )  # fmt: skip
        self.log.info("%s", done.to_markdown())
        return done.to_dict()
