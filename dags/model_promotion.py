"""model_promotion: the one door to production.

One Airflow DAG for every model.
"""

from penstock.operators.candidates import AdmitCandidateOperator, most_at_once
from penstock.operators.promotion import (
    CompareWithProductionOperator,
    ComplianceCheckOperator,
    MoveToStagingOperator,
    PromoteOperator,
    RepairStagesOperator,
    approval_request,
)
from penstock.pipelines import MODEL_VERSION, pipeline
from penstock.scope import Scope


@pipeline(per="model", params={"model_version": MODEL_VERSION}, max_active_runs=most_at_once)
def model_promotion(scope: Scope) -> None:
    """Takes a registered version through compliance check, comparison and approval into production.

    One candidate at a time: a newer version that complies supersedes an older one that waits. A version that fails a
    gate is archived, with the reason in its tags and in `deployments`. The run's id is `promote__<model>__<version>`,
    so that a version is under way once, whoever asks.
    """
    about = {"project": scope.project, "model": scope.model, "root": scope.root}
    repair = RepairStagesOperator(task_id="repair", **about)
    admit = AdmitCandidateOperator(task_id="admit", **about)
    compliance = ComplianceCheckOperator(task_id="compliance_check", **about)
    staging = MoveToStagingOperator(task_id="to_staging", verdict=compliance.output, **about)
    comparison = CompareWithProductionOperator(task_id="compare_with_production", **about)
    approval = approval_request(scope, compliance=compliance.output, comparison=comparison)
    promote = PromoteOperator(
        task_id="to_production", compliance=compliance.output, comparison=comparison.output, approval=approval.output,
        outlets=[scope.production], **about,
    )  # fmt: skip
    repair >> admit >> compliance >> staging >> comparison >> approval >> promote
