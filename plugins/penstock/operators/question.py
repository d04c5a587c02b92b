"""What a request for approval remembers of its question, and reads in an answer: it outlives a try that is killed."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from airflow.sdk import Context

from penstock.clock import to_text
from penstock.registry.approval import Answer

_KEY = "question"
_KEPT_AFTER_ITS_END = timedelta(days=30)


@dataclass(frozen=True)
class Question:
    """What a task asks since somebody cleared it last (which raises max_tries: then people are asked anew).

    asked_at: when, as text. written: whether the request is known to stand in Airflow's database; it is noted before,
    so that a try after one that was killed meanwhile looks first, and takes no answer away.
    """

    max_tries: int
    asked_at: str
    written: bool = True

    @classmethod
    def of(cls, context: Context) -> Self | None:
        """The question that this try or an earlier one asked; None before the first."""
        found = context["task_state_store"].get(_KEY)
        ours = isinstance(found, dict) and found["max_tries"] == context["ti"].max_tries
        return cls(**found) if ours else None

    def keep(self, context: Context, open_for: timedelta) -> None:
        """Notes it for tries to come."""
        context["task_state_store"].set(_KEY, asdict(self), retention=open_for + _KEPT_AFTER_ITS_END)

    def answered_by(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to this question in what woke the task; None where there is none.

        Airflow wakes a task that is deferred with the answer itself, AnswerTrigger with what it found. What it found is
        an answer to an earlier question where the task was cleared, and this one was not written yet.
        """
        found: dict[str, Any] | None = event if "chosen_options" in event else event.get("answer")
        if found is None or self.written or _moment(found.get("responded_at")) is None:
            return found
        return found if _moment(found["responded_at"]) >= _moment(self.asked_at) else None


def answer_of(event: dict[str, Any]) -> Answer:
    """An answer as the audit keeps it: the same, whether Airflow hands it over or AnswerTrigger has read it."""
    user, at = event.get("responded_by_user") or {}, _moment(event.get("responded_at"))
    return Answer(
        option=event["chosen_options"][0],
        reason=reason_of(event) or "no reason given",
        user=user.get("name") or user.get("id") or "unknown",
        user_id=user.get("id"),
        answered_at=None if at is None else to_text(at),
    )


def reason_of(event: dict[str, Any]) -> str:
    """The reason that was given with an answer; empty where there was none."""
    return str((event.get("params_input") or {}).get("reason") or "").strip()


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
