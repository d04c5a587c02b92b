"""The task that lets a version in: a person's answer, or an automatic one, as the environment says.

Airflow 3.3 wakes a waiting task in the very moment of the answer. If the process that asked has not quite ended
then, the scheduler takes its end for that of the woken task, and fails it. A try again therefore looks for the
answer first (it survives in the database), instead of asking once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time.hitl import HITLUser, upsert_hitl_detail

from penstock.clock import now, to_text
from penstock.hooks.workspace import WorkspaceHook
from penstock.notifiers.notice import Notice, notify
from penstock.operators.base import resolve_as_of
from penstock.operators.links import page
from penstock.operators.promotion import JUDGED_AGAIN
from penstock.registry.approval import SHOWN, Answer, check_passed, record_answer, request_text
from penstock.registry.notes import NoteKind
from penstock.spec.environment import NotificationEvent
from penstock.triggers.answer import AnswerTrigger
from penstock.workspace import Lineage, Workspace

if TYPE_CHECKING:
    from penstock.scope import Scope

APPROVE, REJECT, EXPIRED = "Approve", "Reject", "Expired"
_SIMPLE = "SimpleAuthManager"
_QUESTION = "question"
FORM = {
    "reason": Param(
        None, type=["null", "string"], title="reason", description="Kept in the audit; a rejection needs one."
    ),
}
"""What is asked for with an answer: the operator's `params`."""


@dataclass(frozen=True)
class _Subject:
    """The version that is asked about."""

    workspace: Workspace
    project: str
    model: str
    version: int
    as_of: datetime

    @property
    def about(self) -> tuple[Workspace, str, str, int]:
        return self.workspace, self.project, self.model, self.version

    @property
    def name(self) -> str:
        return f"{self.project}.{self.model} version {self.version}"


class HumanApprovalOperator(HITLOperator):
    """Asks the environment's approvers, with the evidence. XCom: chosen_options, params_input, who and when, shown.

    While it waits it looks, every `approval.look_again`, whether its version waits still, and is skipped where not.
    Nobody's answer within the environment's time is the answer `Expired`. An answer by somebody who is no approver, and
    a rejection without a reason, do not count: they are kept in the audit, and the question stays open.

    :param compliance, comparison: the verdicts.
    :param shown: the fingerprints of what is decided upon.
    """

    template_fields: Sequence[str] = ("subject", "compliance", "comparison", "shown", "model_version")

    def __init__(
        self, *, scope: "Scope", compliance: Any, comparison: Any, shown: str, model_version: str, **kwargs: Any
    ) -> None:
        approval = scope.environment.approval
        super().__init__(
            subject=f"Promote {scope.project}.{scope.model} version {model_version} to production?",
            options=[APPROVE, REJECT],
            assigned_users=assigned_users(approval.approvers, conf.get("core", "auth_manager", fallback="")),
            response_timeout=timedelta(hours=approval.expires_after_hours),
            **kwargs,
        )
        self.look_again = approval.look_again
        self.project, self.model, self.root = scope.project, scope.model, str(scope.root)
        self.compliance, self.comparison, self.shown, self.model_version = compliance, comparison, shown, model_version

    def execute(self, context: Context) -> Any:
        """Asks; a try again looks for an answer first."""
        memory, ti = context["task_state_store"], context["ti"]
        question = memory.get(_QUESTION)
        # a person who clears the task raises max_tries, and wants to be asked anew
        if isinstance(question, dict) and question["max_tries"] == ti.max_tries:
            self.defer(trigger=AnswerTrigger(ti_id=str(ti.id)), method_name="after_a_try")
        self._may_ask(context)
        if why := self._no_longer_wanted(context):
            raise AirflowSkipException(f"nobody is asked: {why}. {JUDGED_AGAIN}")
        asked_at = now()
        self._ask(context, asked_at)
        assert self.response_timeout is not None  # __init__ gives it
        asked = {"max_tries": ti.max_tries, "asked_at": to_text(asked_at)}
        memory.set(_QUESTION, asked, retention=self.response_timeout + timedelta(days=30))
        self._tell(
            context, NotificationEvent.APPROVAL_WANTED, f"{self._subject(context).name} waits for approval",
            f"{self.subject}\n\n{self.body}",
        )  # fmt: skip
        self._wait(context)

    def after_a_try(self, context: Context, event: dict[str, Any]) -> Any:
        """Goes on with the answer that came while an earlier try ended; else the question stays open."""
        if event["answer"] is not None:
            return self.execute_complete(context, event["answer"])
        return self._ask_again(context)

    def after_the_end(self, context: Context, event: dict[str, Any]) -> Any:
        """Goes on with the answer that came in the last seconds; else the request has expired."""
        if event["answer"] is not None:
            return self.execute_complete(context, event["answer"])
        return self._expired(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Takes the answer, or the end of the time, and keeps it."""
        if event.get("error_type") == "timeout":
            return self._look_again(context)
        if "error" in event:
            self.process_trigger_event_error(event)
        self.validate_chosen_options(event["chosen_options"])
        subject = self._subject(context)
        answer = _answer(event)
        if why := _does_not_count(subject, answer, event):
            self._refuse(context, subject, answer, why)
            return self._ask_again(context)
        self._keep(subject, NoteKind.APPROVAL, answer)
        self._tell(
            context, NotificationEvent.APPROVAL_DECIDED, f"{subject.name}: {answer.option} by {answer.user}",
            answer.reason,
        )  # fmt: skip
        return self._result(answer)

    def _look_again(self, context: Context) -> Any:
        """The end of the time; before that, whether anybody needs to answer still: the task is skipped where not."""
        if self._time_left(context) <= timedelta(0):
            # an answer in the last seconds may lie there already
            self.defer(trigger=AnswerTrigger(ti_id=str(context["ti"].id)), method_name="after_the_end")
        self._skip_if_not_wanted(context)
        return self._wait(context)

    def _skip_if_not_wanted(self, context: Context) -> None:
        """Raises AirflowSkipException, and tells people, where nobody needs to answer any more."""
        why = self._no_longer_wanted(context)
        if why is None:
            return
        self._tell(
            context, NotificationEvent.APPROVAL_DECIDED,
            f"{self._subject(context).name} no longer waits for approval", why,
        )  # fmt: skip
        raise AirflowSkipException(why)

    def _no_longer_wanted(self, context: Context) -> str | None:
        from penstock.registry.queue import settle_waiting

        try:
            subject = self._subject(context)
            return settle_waiting(*subject.about, subject.as_of)
        except Exception:  # whatever does not answer now must not end the question: the next look may
            self.log.warning("it is not known whether this approval is wanted still; it stays open", exc_info=True)
            return None

    def _expired(self, context: Context) -> dict[str, Any]:
        subject = self._subject(context)
        hours = subject.workspace.environment.approval.expires_after_hours
        at = to_text((now() + self._time_left(context)).replace(microsecond=0))  # when it ended: each end is kept once
        answer = Answer(EXPIRED, f"expired: nobody answered within {hours:g} h", "penstock (expired)", None, at)
        self._keep(subject, NoteKind.APPROVAL, answer)
        self._tell(context, NotificationEvent.APPROVAL_EXPIRED, f"{subject.name}: the approval expired", answer.reason)
        return self._result(answer)

    def _refuse(self, context: Context, subject: _Subject, answer: Answer, why: str) -> None:
        self.log.warning("%s: the answer does not count, and the question stays open", why)
        refused = Answer(answer.option, why, answer.user, answer.user_id, answer.answered_at)
        self._keep(subject, NoteKind.REFUSED, refused)
        self._tell(context, NotificationEvent.APPROVAL_WANTED, f"{subject.name} still waits for approval", why)

    def _ask_again(self, context: Context) -> Any:
        """The same question, for what is left of its time, if an answer is wanted still."""
        if self._time_left(context) <= timedelta(0):
            return self._expired(context)
        self._skip_if_not_wanted(context)
        self._ask(context, now())
        return self._wait(context)

    def _ask(self, context: Context, asked_at: datetime) -> None:
        """Writes the request, with the evidence and until when it may be answered."""
        subject = self._subject(context)
        until = to_text((asked_at + self._time_left(context)).replace(microsecond=0))
        text = request_text(*subject.about, self.compliance, self.comparison, self._links(subject))
        self.body = f"Open until {until}.\n\n{text}"
        upsert_hitl_detail(
            ti_id=context["ti"].id, options=self.options, subject=self.subject, body=self.body,
            params=self.serialized_params, assigned_users=self.assigned_users,
        )  # fmt: skip

    def _wait(self, context: Context) -> Any:
        timeout = min(self._time_left(context), self.look_again)
        raise TaskAwaitingInput(method_name="execute_complete", timeout=timeout)

    def _time_left(self, context: Context) -> timedelta:
        assert self.response_timeout is not None  # __init__ gives it
        question = context["task_state_store"].get(_QUESTION)
        if not (isinstance(question, dict) and question["max_tries"] == context["ti"].max_tries):
            return self.response_timeout
        return datetime.fromisoformat(str(question["asked_at"])) + self.response_timeout - now()

    def _may_ask(self, context: Context) -> None:
        """Raises GateError where a gate, a freeze or a rollback holds the version back: nobody is asked in vain."""
        from penstock.registry.holds import check_may_promote

        subject = self._subject(context)
        check_passed(subject.name, {"compliance": self.compliance, "comparison": self.comparison})
        check_may_promote(*subject.about)

    def _subject(self, context: Context) -> _Subject:
        ti = context["ti"]
        workspace = WorkspaceHook(root=self.root).workspace(Lineage(run=f"{ti.dag_id}/{ti.run_id}"))
        return _Subject(workspace, self.project, self.model, int(self.model_version), resolve_as_of(workspace, context))

    def _keep(self, subject: _Subject, kind: NoteKind, answer: Answer) -> None:
        record_answer(*subject.about, kind, answer, subject.as_of, self._shown)

    def _result(self, answer: Answer) -> dict[str, Any]:
        self.log.info("%s by %s: %s", answer.option, answer.user, answer.reason)
        user = {"id": answer.user_id, "name": answer.user} if answer.option != EXPIRED else None
        return {
            "chosen_options": [answer.option], "params_input": {"reason": answer.reason},
            "responded_by_user": user, "responded_at": answer.answered_at, SHOWN: self._shown,
        }  # fmt: skip

    @property
    def _shown(self) -> dict[str, Any]:
        return dict(self.shown) if isinstance(self.shown, dict) else {}

    def _links(self, subject: _Subject) -> dict[str, str]:
        from penstock.operators.links import mlflow_version

        address = mlflow_version(
            subject.workspace.resolved.mlflow_uri, f"{subject.project}.{subject.model}", subject.version
        )
        return {"audit, comparisons, versions": page("models", subject.project, subject.model), "in MLflow": address}

    def _tell(self, context: Context, event: NotificationEvent, title: str, text: str) -> None:
        subject = self._subject(context)
        ti = context["ti"]
        base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
        link = f"{base}/dags/{ti.dag_id}/runs/{ti.run_id}/tasks/{ti.task_id}/required_actions"
        notice = Notice(event, subject.project, subject.model, subject.version, title, text, link)
        notify(subject.workspace.environment, notice, context, self.log)


def assigned_users(approvers: Sequence[str], auth_manager: str) -> list[HITLUser] | None:
    """Whom Airflow itself lets answer; None leaves it to the check of the answer.

    Airflow compares ids: the simple auth manager's are user names, others' (FAB) are numbers. So names are handed
    to Airflow with the simple auth manager only, and numbers with any.
    """
    if approvers and (auth_manager.rpartition(".")[2] in ("", _SIMPLE) or all(name.isdigit() for name in approvers)):
        return [HITLUser(id=user, name=user) for user in approvers]
    return None


def _does_not_count(subject: _Subject, answer: Answer, event: dict[str, Any]) -> str | None:
    """Why an answer leaves the question open; None where it counts."""
    approval = subject.workspace.environment.approval
    if not approval.may_approve(answer.user, answer.user_id):
        approvers = ", ".join(approval.approvers)
        return f"{answer.user} answered {answer.option!r}, but is no approver of this environment ({approvers})"
    if answer.option == REJECT and not _reason(event):
        return f"{answer.user} answered {answer.option!r} without a reason: reject it again, and say why"
    return None


def _reason(event: dict[str, Any]) -> str:
    return str((event.get("params_input") or {}).get("reason") or "").strip()


def _answer(event: dict[str, Any]) -> Answer:
    user, at = event.get("responded_by_user") or {}, event.get("responded_at")
    return Answer(
        option=event["chosen_options"][0],
        reason=_reason(event) or "no reason given",
        user=user.get("name") or user.get("id") or "unknown",
        user_id=user.get("id"),
        answered_at=to_text(at) if isinstance(at, datetime) else at,
    )
