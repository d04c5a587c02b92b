"""Operators of model_promotion."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from penstock.clock import to_text
from penstock.errors import SpecError
from penstock.gates import Verdict
from penstock.operators.base import emit
from penstock.operators.links import ModelVersionLink
from penstock.operators.training import ModelOperator
from penstock.operators.waiting import AskAgainOperator
from penstock.spec.environment import ApprovalMode
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.scope import Scope

APPROVE, EXPIRED = "Approve", "Expired"
AUTOMATIC, EXPIRY = "penstock (automatic)", "penstock (expired)"
JUDGED_AGAIN = "To have it judged again, run model_promotion for it with a later as_of"


class VersionOperator(ModelOperator):
    """An operator about one registered version: `model_version`, else the run's parameter."""

    template_fields: Sequence[str] = (*ModelOperator.template_fields, "model_version")
    operator_extra_links = (ModelVersionLink(),)

    def __init__(self, *, model_version: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_version = model_version

    def version(self, workspace: Workspace, context: Context) -> int:
        """The version. Raises SpecError where nobody gave one."""
        given = self.model_version or (context.get("params") or {}).get("model_version")
        if not given:
            raise SpecError(
                f"{self.project}.{self.model}: which version? Give the parameter model_version, such as "
                '{"conf": {"model_version": 3}}'
            )
        ModelVersionLink.store(context, workspace.resolved.mlflow_uri, f"{self.project}.{self.model}", int(given))
        return int(given)


class RepairStagesOperator(ModelOperator):
    """Completes what a crash left half done, and notices an alias that was moved by hand."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.registry.deployments.repair."""
        from penstock.registry.deployments import repair

        return repair(workspace, self.project, self.model, as_of)


class ComplianceCheckOperator(VersionOperator):
    """Checks what must hold for any model. XCom: the verdict."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.compliance.check_compliance."""
        from penstock.registry.compliance import check_compliance

        verdict = check_compliance(workspace, self.project, self.model, self.version(workspace, context), as_of)
        self.log.info("%s", verdict.to_markdown())
        return verdict.to_dict()


class MoveToStagingOperator(VersionOperator):
    """To Staging, or to Archived, by the compliance check's verdict; Archived ends the run here."""

    template_fields: Sequence[str] = (*VersionOperator.template_fields, "verdict")

    def __init__(self, *, verdict: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.promotion.stage_after_compliance."""
        from penstock.registry.promotion import stage_after_compliance

        verdict = Verdict.from_dict(self.verdict)
        version = self.version(workspace, context)
        moved = stage_after_compliance(workspace, self.project, self.model, version, verdict, as_of)
        if not verdict.passed:
            where = f"it is in {moved.to_stage}" if moved.production == version else "it was archived"
            stop_here(self, context, f"version {version} does not comply, {where}: {verdict.reason}")
        return {"version": version, "stage": str(moved.to_stage)}


class CompareWithProductionOperator(VersionOperator, AskAgainOperator):
    """The candidate against production and the heuristic, by the methods of `promotion`. XCom: verdict, shown.

    A method that has no answer yet makes the task wait, deferred: no worker is held meanwhile. A version that is no
    candidate any more by then (a newer one superseded it, say) ends the run here.
    """

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.comparison.compare_with_production; a loser is archived."""
        from penstock.registry.approval import shown
        from penstock.registry.comparison import compare_with_production
        from penstock.registry.deciding import fingerprint
        from penstock.registry.methods import Pending
        from penstock.registry.promotion import reject
        from penstock.registry.queue import settle_waiting

        version = self.version(workspace, context)
        rule = fingerprint(workspace, self.project, self.model)  # before: a change during the comparison shows, too
        verdict = compare_with_production(workspace, self.project, self.model, version, as_of)
        if isinstance(verdict, Pending):
            if why := settle_waiting(workspace, self.project, self.model, version, as_of):
                stop_here(self, context, why)
            self.wait(f"version {version} is still compared: {verdict.sentence}", verdict.ask_again_after)
            return None
        decided_upon = replace(shown(workspace, self.project, self.model, verdict.to_dict()), spec=rule)
        self.log.info("%s", verdict.to_markdown())
        context["ti"].xcom_push(key="shown", value=decided_upon.to_dict())
        if not verdict.passed:
            reject(
                workspace, self.project, self.model, version, decided_by=AUTOMATIC, reason=verdict.reason,
                evidence=verdict.to_dict(), as_of=as_of,
            )  # fmt: skip
            stop_here(self, context, f"version {version} was archived: {verdict.reason}", verdict.to_dict())
        return verdict.to_dict()


class AutomaticApprovalOperator(VersionOperator):
    """Approves what passed its gates, where the environment wants no human. XCom as HumanApprovalOperator's."""

    template_fields: Sequence[str] = (*VersionOperator.template_fields, "shown")

    def __init__(self, *, shown: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shown = shown

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Answers what a human would have; stops where a freeze or a rollback holds the version back. Skipped for a
        version that was archived meanwhile.

        A version that needs an adoption goes in by the decision of the person who adopted it.
        """
        from penstock.registry.adoption import adoption_of
        from penstock.registry.holds import check_may_promote
        from penstock.registry.queue import settle_waiting
        from penstock.registry.stages import current_production

        version = self.version(workspace, context)
        check_may_promote(workspace, self.project, self.model, version)
        why = settle_waiting(workspace, self.project, self.model, version, as_of)
        if why and current_production(workspace, self.project, self.model) != version:
            raise AirflowSkipException(f"{why}. {JUDGED_AGAIN}")
        adopted = adoption_of(workspace, self.project, self.model, version, as_of)
        user = {"name": adopted.decided_by, "id": adopted.decided_by} if adopted else None
        reason = f"adopted: {adopted.reason}" if adopted else "all gates passed"
        return {
            "chosen_options": [APPROVE], "params_input": {"reason": reason}, "responded_by_user": user,
            "shown": self.shown,
        }  # fmt: skip


class PromoteOperator(VersionOperator):
    """To Production, or to Archived, as the approval says; a rejection skips the task, so no event goes out.

    An approval is not enough: whoever clears tasks that a failed gate skipped is refused by the gates' verdicts.

    :param compliance, comparison: the verdicts of the gates.
    :param approval: the answer to the request for approval.
    """

    template_fields: Sequence[str] = (*VersionOperator.template_fields, "compliance", "comparison", "approval")

    def __init__(self, *, compliance: Any, comparison: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compliance = compliance
        self.comparison = comparison
        self.approval = approval

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.promotion.carry_out."""
        from penstock.registry.approval import SHOWN
        from penstock.registry.promotion import Decision, carry_out

        version = self.version(workspace, context)
        option = self.approval["chosen_options"][0]
        user = self.approval.get("responded_by_user") or {}
        nobody = EXPIRY if option == EXPIRED else AUTOMATIC
        decided_by = user.get("name") or user.get("id") or nobody
        reason = (self.approval.get("params_input") or {}).get("reason") or "no reason given"
        answer = {"answer": option, "user_id": user.get("id"), "answered_at": self.approval.get("responded_at")}
        verdicts = {"compliance": self.compliance, "comparison": self.comparison}
        evidence = {**verdicts, SHOWN: self.approval.get(SHOWN), "approval": answer}
        decision = Decision(option == APPROVE, decided_by, reason)
        carry_out(workspace, self.project, self.model, version, decision, evidence, as_of)
        if not decision.approved:
            raise AirflowSkipException(f"version {version} was not let in by {decided_by}: {reason}")
        for asset in self.outlets:
            emit(context, asset, as_of=to_text(as_of), model_version=version)
        return {"version": version, "stage": "Production", "decided_by": decided_by, "reason": reason}


def approval_request(scope: "Scope", *, compliance: Any, comparison: BaseOperator) -> BaseOperator:
    """The task that lets a version in: a person's answer, or an automatic one, as the environment says.

    :param compliance: the verdict of the compliance check.
    :param comparison: the task that compares; its `shown` XCom says what is decided upon.
    """
    shown = f"{{{{ ti.xcom_pull(task_ids='{comparison.task_id}', key='shown') }}}}"
    if scope.environment.approval.mode is ApprovalMode.AUTOMATIC:
        about = {"project": scope.project, "model": scope.model, "root": scope.root}
        return AutomaticApprovalOperator(task_id="approval", shown=shown, **about)
    # Only here, since every task of this DAG parses this file again and the import takes a third of a second.
    from penstock.operators.approval import FORM, HumanApprovalOperator

    return HumanApprovalOperator(
        task_id="approval", scope=scope, compliance=compliance, comparison=comparison.output, shown=shown,
        model_version="{{ params.model_version }}", params=FORM, retries=5, retry_delay=timedelta(seconds=1),
    )  # fmt: skip


def request_promotion(scope: "Scope", *, registered: str, training_set: str) -> BaseOperator:
    """Knocks at the one door: asks for the run `promote__<model>__<version>`, unless it is already under way.

    :param registered: id of the task that registered the version.
    :param training_set: id of the task whose as_of the promotion takes over.
    """
    version = f"{{{{ ti.xcom_pull(task_ids='{registered}')['version'] }}}}"
    return TriggerDagRunOperator(
        task_id="request_promotion",
        trigger_dag_id=scope.dag_id("model_promotion"),
        trigger_run_id=f"promote__{scope.model}__{version}",
        logical_date=None,
        conf={
            "model_version": version,
            "as_of": f"{{{{ ti.xcom_pull(task_ids='{training_set}')['as_of'] }}}}",
            "reason": "registered by {{ dag_run.run_id }}",
        },
        skip_when_already_exists=True,
    )


def stop_here(operator: BaseOperator, context: Context, why: str, result: Any = None) -> None:
    """Ends a run by a gate's verdict: this task succeeded, what follows is skipped."""
    operator.log.warning("%s", why)
    context["ti"].xcom_push(key="return_value", value=result)
    context["ti"].xcom_push(key="stopped", value=why)
    raise DownstreamTasksSkipped(tasks=sorted(operator.downstream_task_ids))
