"""Reads the answer that a person has given to a request for approval, if there is one."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from penstock.clock import to_text


class AnswerTrigger(BaseTrigger):
    """Fires once with {"answer": …, "asked": …}: what was answered to the task's request, or None; whether it is there.

    A task cannot read it; the triggerer can. It waits a moment first, until the scheduler has seen that the
    process which asked is gone: whatever wakes a task before that makes Airflow 3.3 fail it.

    :param ti_id: the task instance that asked.
    :param settle_seconds: how long to wait.
    """

    def __init__(self, *, ti_id: str, settle_seconds: float = 3.0) -> None:
        super().__init__()
        self.ti_id, self.settle_seconds = ti_id, settle_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its parameters, for the triggerer."""
        parameters = {"ti_id": self.ti_id, "settle_seconds": self.settle_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", parameters

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields the answer, or None where nobody answered, or nothing was asked."""
        from airflow.sdk.exceptions import AirflowRuntimeError
        from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail
        from asgiref.sync import sync_to_async

        await asyncio.sleep(self.settle_seconds)
        try:
            found = await sync_to_async(get_hitl_detail_content_detail)(ti_id=self.ti_id)  # type: ignore[arg-type]
        except AirflowRuntimeError as error:
            if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
                raise  # it is not known what was answered: the task's next try looks again
            yield TriggerEvent({"answer": None, "asked": False})
            return
        if not (found.response_received and found.chosen_options):
            yield TriggerEvent({"answer": None, "asked": True})
            return
        user = found.responded_by_user
        answer = {
            "chosen_options": list(found.chosen_options), "params_input": found.params_input or {},
            "responded_at": to_text(found.responded_at) if found.responded_at else None,
            "responded_by_user": {"id": user.id, "name": user.name} if user else None,
        }  # fmt: skip
        yield TriggerEvent({"answer": answer, "asked": True})
