"""Operators of batch_inference."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import Context

from penstock.operators.base import emit
from penstock.operators.links import TableLink
from penstock.operators.training import ModelOperator
from penstock.workspace import Workspace


class ScoreBatchOperator(ModelOperator):
    """Scores the entity rows since the last score with the production version. XCom: table, version, window."""

    operator_extra_links = (TableLink(),)

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.inference.batch.score_batch."""
        from penstock.inference.batch import score_batch

        scored = score_batch(workspace, self.project, self.model, as_of)
        self.log.info("%s@%s: %s rows by version %s", scored.table, scored.version, scored.rows, scored.model_version)
        TableLink.store(context, scored.table)
        return scored


class PublishPredictionsOperator(ModelOperator):
    """Hands the newest predictions to the declared sinks, and tells whoever waits for them (an asset event)."""

    template_fields: Sequence[str] = (*ModelOperator.template_fields, "scored")

    def __init__(self, *, scored: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scored = scored

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.inference.sinks.publish."""
        from penstock.inference.batch import ScoredBatch
        from penstock.inference.sinks import publish

        batch = ScoredBatch(**self.scored)
        published = publish(workspace, self.project, self.model, batch)
        for asset in self.outlets:
            emit(context, asset, as_of=batch.as_of, table=batch.table, version=batch.version)
        return published
