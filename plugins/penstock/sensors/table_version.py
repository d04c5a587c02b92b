"""Waiting for a Delta table, in a DAG of one's own."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context

from penstock.home import root as repository_root
from penstock.triggers.table_version import TableVersionTrigger
from penstock.workspace import Workspace


class TableVersionSensor(BaseOperator):
    """Waits, deferred, until a table has a version greater than `since`. XCom: {"table", "version"}.

    :param table: `project.table` or `root:project.table`; it need not exist yet.
    :param since: the version that is known already (templated), such as another task's output; any by default.
    :param every: seconds between two looks.
    :param root: the folder that holds include/ (the repository's by default).
    """

    template_fields: Sequence[str] = ("table", "since")

    def __init__(
        self, *, table: str, since: int | str = -1, every: float = 30.0, root: str | Path | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.table, self.since, self.every = table, since, every
        self.root = str(root or repository_root())

    def execute(self, context: Context) -> Any:  # noqa: ARG002
        """Hands the waiting to the triggerer."""
        path = Workspace.open(root=self.root).addresses.expected(self.table)
        trigger = TableVersionTrigger(path=path, address=self.table, since=int(self.since), every=self.every)
        timeout = timedelta(seconds=self.execution_timeout.total_seconds()) if self.execution_timeout else None
        self.defer(trigger=trigger, method_name="found", timeout=timeout)

    def found(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """What the trigger saw."""
        self.log.info("%s has version %s", event["table"], event["version"])
        return event
