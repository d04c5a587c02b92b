"""Operator of feature_stream."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import Context

from penstock.errors import NothingToDo
from penstock.operators.base import PenstockOperator
from penstock.spec.common import parse_duration
from penstock.workspace import Workspace


class StreamFeaturesOperator(PenstockOperator):
    """Refreshes a project's features by Structured Streaming. XCom: project, batches. Skipped where nothing came.

    :param every: the least time between two micro-batches, such as 10s (templated).
    :param lasting: how long it goes on (templated); None ends it once everything that is there has been refreshed.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "every", "lasting")

    def __init__(self, *, every: str = "10s", lasting: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.every, self.lasting = every, lasting

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.streaming.refresh_continuously."""
        from penstock.streaming import refresh_continuously

        lasting = parse_duration(self.lasting) if self.lasting else None
        streamed = refresh_continuously(
            workspace, self.project, every=parse_duration(self.every), available_now=lasting is None,
            lasting=lasting, report=self.log.info,
        )  # fmt: skip
        if streamed.batches == 0:
            raise NothingToDo(f"{self.project}: no raw table changed since the stream ended last")
        return streamed
