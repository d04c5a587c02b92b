"""Waiting for an answer that is not there yet, without a worker: the triggerer holds the task, then it asks again."""

from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from penstock.clock import now
from penstock.operators.base import PenstockOperator


class AskAgainOperator(PenstockOperator):
    """An operator whose `run` may find that it is too early, and then calls `wait`."""

    def wait(self, why: str, delay: timedelta) -> None:
        """Hands the waiting to the triggerer; does not return."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.log.info("%s: asked again in %s", why, delay)
        self.defer(trigger=DateTimeTrigger(moment=now() + delay), method_name="ask_again")

    def ask_again(self, context: Context, event: Any) -> Any:  # noqa: ARG002
        """Runs from its beginning: what came of the earlier question stands in tables."""
        return self.execute(context)
