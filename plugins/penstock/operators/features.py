"""Operators of feature_refresh."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import Context

from penstock.clock import to_text
from penstock.errors import NothingToDo
from penstock.operators.base import PenstockOperator, emit
from penstock.operators.links import ReportLink, TableLink
from penstock.workspace import Workspace


class LandSourceOperator(PenstockOperator):
    """Lands what became known to a source, behind its quality gate. XCom: table, version, rows, quarantined."""

    operator_extra_links = (ReportLink(),)

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.features.landing.land_source."""
        from penstock.features.landing import land_source

        ReportLink.store(context, self.project, self.source)
        return land_source(workspace, self.project, self.source, as_of)


class StageFeatureTableOperator(PenstockOperator):
    """Computes what a feature table lacks into a staging table. XCom: the staged batch (a reference).

    Where the run's parameter `backfill` names the table, its rows are first computed again, piece by piece; a try
    after a kill goes on with the piece that was not finished. Where there is nothing to compute again, the log says
    so, and the refresh goes on.
    """

    def __init__(self, *, table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.features.backfill.backfill_table where asked to, and penstock.features.refresh.stage_table."""
        from penstock.features.backfill import backfill_table, check_tables, parse_request
        from penstock.features.refresh import stage_table
        from penstock.lineage.dependants import naming_dependants

        params = context.get("params") or {}
        given = (params.get(name) for name in ("backfill", "backfill_from", "backfill_until", "backfill_piece"))
        request = parse_request(*given)
        check_tables(workspace.project(self.project), request)
        with naming_dependants(workspace):
            if request is not None and self.table in request.tables:
                try:
                    done = backfill_table(workspace, self.project, self.table, as_of, request, say=self.log.info)
                    self.log.info("%s: %s rows changed in %s pieces", done.table, done.rows, done.pieces)
                except NothingToDo as reason:
                    self.log.info("nothing to compute again: %s", reason)
            batch = stage_table(workspace, self.project, self.table, as_of)
        self.log.info("%s: %s rows staged, %s (%s)", batch.table, batch.rows, batch.mode, batch.why)
        return batch


class ValidateBatchOperator(PenstockOperator):
    """The quality gate of a staged batch: bad rows to quarantine, a critical failure stops the table."""

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "batch")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, batch: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.features.merge.validate_batch."""
        from penstock.features.merge import validate_batch
        from penstock.features.staging import StagedBatch

        batch = StagedBatch.from_dict(self.batch)
        ReportLink.store(context, self.project, batch.table)
        return validate_batch(workspace, batch).to_dict()


class MergeBatchOperator(PenstockOperator):
    """Merges a checked batch by keys, in one commit. XCom: table, version, rows, mode, quarantined."""

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "checked")
    operator_extra_links = (TableLink(),)

    def __init__(self, *, checked: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.checked = checked

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.features.merge.merge_batch."""
        from penstock.features.merge import CheckedBatch, merge_batch

        merged = merge_batch(workspace, CheckedBatch.from_dict(self.checked))
        TableLink.store(context, merged.table)
        return merged


class FeaturesRefreshedOperator(PenstockOperator):
    """Tells whoever waits for a project's features which table versions there are now (an asset event)."""

    def __init__(self, *, tables: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tables = list(tables)

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Emits the event with as_of and the tables' versions."""
        from penstock.lakehouse.small_tables import version

        found = {}
        for table in self.tables:
            path = workspace.addresses.find(f"{self.project}.{table}")
            if path is not None:
                found[f"{self.project}.{table}"] = version(path)
        if not found:
            raise NothingToDo(f"{self.project} has no tables yet")
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of), tables=found)
        return {"as_of": to_text(as_of), "tables": found}


class PublishOnlineOperator(PenstockOperator):
    """Publishes the newest values of a project's online tables to their stores. XCom: tables, rows, how and why."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.online.publish.publish_online."""
        from penstock.online.publish import publish_online

        published = publish_online(workspace, self.project, as_of)
        for table in published.tables:
            self.log.info(
                "%s: %s keys, %s removed, %s (%s)", table.table, table.rows, table.removed, table.mode, table.why
            )
        return published


class CompareOnlineOperator(PenstockOperator):
    """Compares what is online with the lakehouse, value by value; a difference fails the task. XCom: the verdict."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.online.compare.check_online."""
        from penstock.online.compare import check_online

        verdict = check_online(workspace, self.project, as_of)
        self.log.info("%s", verdict.to_markdown())
        return verdict.to_dict()
