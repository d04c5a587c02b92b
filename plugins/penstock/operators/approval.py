"""The task that lets a version in: a person's answer, or an automatic one, as the environment says.

Airflow 3.3 wakes a waiting task in the very moment of the answer. If the process that asked has not quite ended
then, the scheduler takes its end for that of the woken task, and fails it. A try again therefore looks for the
answer first (it survives in the database), instead of asking once more: to ask takes away the answer that is there. For
the same reason it asks anew only where the question does not stand yet, or its answer did not count. To wait is enough:
Airflow wakes a task that begins to wait while an answer is there already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from penstock.operators.question import Question, answer_of, reason_of
from penstock.registry.approval import SHOWN, Answer, check_passed, record_answer, request_text
from penstock.registry.notes import NoteKind
from penstock.spec.environment import NotificationEvent
from penstock.triggers.answer import AnswerTrigger
from penstock.workspace import Lineage, Workspace

if TYPE_CHECKING:
    from penstock.scope import Scope

APPROVE, REJECT, EXPIRED = "Approve", "Reject", "Expired"
_SIMPLE = "SimpleAuthManager"
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
        ti = context["ti"]
        if Question.of(context) is not None:
            self.defer(trigger=AnswerTrigger(ti_id=str(ti.id)), method_name="after_a_try")
        self._may_ask(context)
        if why := self._no_longer_wanted(context):
            raise AirflowSkipException(f"nobody is asked: {why}. {JUDGED_AGAIN}")
        question = Question(ti.max_tries, to_text(now()), written=False)
        question.keep(context, self._open_for)
        return self._put(context, question)

    def after_a_try(self, context: Context, event: dict[str, Any]) -> Any:
        """Goes on with the answer that came while an earlier try ended; else the question stays open."""
        question = Question.of(context)
        assert question is not None  # execute found it
        answer = question.answered_by(event)
        if answer is not None:
            return self.execute_complete(context, answer)
        if self._time_left(context) <= timedelta(0):
            return self._expired(context)
        self._skip_if_not_wanted(context)
        if question.written:
            return self._wait(context)
        stands = event.get("asked", True) and event.get("answer") is None
        return self._put(context, question, stands=stands)

    def after_the_end(self, context: Context, event: dict[str, Any]) -> Any:
        """Goes on with the answer that came in the last seconds; else the request has expired."""
        question = Question.of(context)
        answer = event.get("answer") if question is None else question.answered_by(event)
        if answer is not None:
            return self.execute_complete(context, answer)
        return self._expired(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Takes the answer, or the end of the time, and keeps it."""
        if event.get("error_type") == "timeout":
            return self._look_again(context)
        if "error" in event:
            self.process_trigger_event_error(event)
        self.validate_chosen_options(event["chosen_options"])
        subject = self._subject(context)
        answer = answer_of(event)
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
        at = self._until(context)  # when it ended: each end is kept once
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
        self._ask(context, self._text(context))
        return self._wait(context)

    def _put(self, context: Context, question: Question, *, stands: bool = False) -> Any:
        """Writes the question, unless it `stands` already; tells people; waits."""
        text = self._text(context)
        if not stands:
            self._ask(context, text)
        replace(question, written=True).keep(context, self._open_for)
        self._tell(
            context, NotificationEvent.APPROVAL_WANTED, f"{self._subject(context).name} waits for approval",
            f"{self.subject}\n\n{text}",
        )  # fmt: skip
        return self._wait(context)

    def _text(self, context: Context) -> str:
        """The evidence, and until when it may be answered."""
        subject = self._subject(context)
        text = request_text(*subject.about, self.compliance, self.comparison, self._links(subject))
        return f"Open until {self._until(context)}.\n\n{text}"

    def _ask(self, context: Context, text: str) -> None:
        """Writes the request: an answer that is there is taken away."""
        self.body = text
        upsert_hitl_detail(
            ti_id=context["ti"].id, options=self.options, subject=self.subject, body=self.body,
            params=self.serialized_params, assigned_users=self.assigned_users,
        )  # fmt: skip

    def _wait(self, context: Context) -> Any:
        timeout = min(self._time_left(context), self.look_again)
        raise TaskAwaitingInput(method_name="execute_complete", timeout=timeout)

    @property
    def _open_for(self) -> timedelta:
        assert self.response_timeout is not None  # __init__ gives it
        return self.response_timeout

    def _end(self, context: Context) -> datetime:
        question = Question.of(context)
        return (now() if question is None else datetime.fromisoformat(question.asked_at)) + self._open_for

    def _time_left(self, context: Context) -> timedelta:
        return self._end(context) - now()

    def _until(self, context: Context) -> str:
        return to_text(self._end(context).replace(microsecond=0))

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
    if answer.option == REJECT and not reason_of(event):
        return f"{answer.user} answered {answer.option!r} without a reason: reject it again, and say why"
    return None
