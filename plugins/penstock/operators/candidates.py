"""Operators about the order of candidates: whose turn it is, and whose promotion was missed."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator, Context

from penstock.errors import NothingToDo
from penstock.operators.base import PenstockOperator
from penstock.operators.promotion import VersionOperator
from penstock.operators.training import ModelOperator
from penstock.spec.environment import ApprovalMode
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.scope import Scope


_WAITING_AT_ONCE = 16


def most_at_once(scope: "Scope") -> int:
    """How many promotions of a model may run at once: where people approve, or a method of the project's own may take
    some windows to answer, newer ones must pass those that wait.

    What keeps them in order is not this number but `penstock.registry.queue`.
    """
    may_wait = any("." in method for method in scope.model_spec.promotion.methods)
    return _WAITING_AT_ONCE if may_wait or scope.environment.approval.mode is ApprovalMode.HUMAN else 1


class AdmitCandidateOperator(VersionOperator):
    """Lets the run's version go on, unless a newer one is in Staging or Production: then it is archived, and the run
    ends here.

    A version that was rolled back is stopped here, until a person allows it.
    """

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:
        """Calls penstock.registry.queue.admit."""
        from penstock.registry.queue import admit

        return admit(workspace, self.project, self.model, self.version(workspace, context), as_of)


class ReconcileStagesOperator(ModelOperator):
    """Finishes what was left half done, and notices aliases that were moved by hand, as of the environment's clock."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.registry.deployments.repair."""
        from penstock.registry.deployments import repair

        return repair(workspace, self.project, self.model)


@dataclass(frozen=True)
class _Runs:
    """A promotion DAG's runs, asked for over the task's own connection to Airflow."""

    ti: Any
    dag_id: str

    def exists(self, run_id: str) -> bool:
        return bool(self.ti.get_dr_count(dag_id=self.dag_id, run_ids=[run_id]))

    def failed(self, run_id: str) -> bool:
        return bool(self.ti.get_dr_count(dag_id=self.dag_id, run_ids=[run_id], states=["failed"]))

    def any_active(self) -> bool:
        return bool(self.ti.get_dr_count(dag_id=self.dag_id, states=["queued", "running"]))


class FindMissedVersionOperator(ModelOperator):
    """The version that nobody decides upon, though somebody should; skips where there is none. XCom: version, as_of,
    run_id.
    """

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.registry.queue.find_missed."""
        from penstock.registry.queue import find_missed

        runs = _Runs(context["ti"], f"{self.project}.{self.model}.model_promotion")
        found = find_missed(workspace, self.project, self.model, runs)
        if found is None:
            raise NothingToDo(
                f"every version of {self.project}.{self.model} was decided upon, or has its promotion's run"
            )
        self.log.warning("nobody decides upon version %s: %s is asked for", found.version, found.run_id)
        return found


class JudgeUndeclaredOperator(PenstockOperator):
    """Gives versions of models that the project does not declare their verdict; skips where there are none."""

    def run(self, workspace: Workspace, as_of: datetime, context: Context) -> Any:  # noqa: ARG002
        """Calls penstock.registry.undeclared.judge_undeclared, as of the environment's clock."""
        from penstock.registry.undeclared import judge_undeclared

        judged = judge_undeclared(workspace, self.project, workspace.moment())
        for name, why in judged.items():
            self.log.warning("%s starts no promotion: %s", name, why)
        if not judged:
            raise NothingToDo(f"every registered model of {self.project} is declared, or was judged before")
        return judged


def request_missed_promotion(scope: "Scope", *, missed: str) -> BaseOperator:
    """Knocks at the one door for what `missed`, a FindMissedVersionOperator's task, found."""
    found = f"ti.xcom_pull(task_ids='{missed}')"
    return TriggerDagRunOperator(
        task_id="request_promotion",
        trigger_dag_id=scope.dag_id("model_promotion"),
        trigger_run_id=f"{{{{ {found}['run_id'] }}}}",
        logical_date=None,
        conf={
            "model_version": f"{{{{ {found}['version'] }}}}",
            "as_of": f"{{{{ {found}['as_of'] }}}}",
            "reason": "found in the registry by {{ dag_run.run_id }}",
        },
        skip_when_already_exists=True,
    )
