"""registry_reconciliation: what the registry holds and nobody acted upon.

One Airflow DAG for every model.
"""

from penstock.operators.candidates import (
    FindMissedVersionOperator,
    ReconcileStagesOperator,
    request_missed_promotion,
)
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", every=lambda scope: scope.environment.reconcile_registry)
def registry_reconciliation(scope: Scope) -> None:
    """Finishes stage changes that a crash left, notices aliases moved by hand, and starts promotions that were missed.

    MLflow forgets a webhook's delivery after three tries: a version that was registered while Airflow was down
    is found here, the newest first. Once that one is in Staging, older ones are superseded by it.
    """
    about = {"project": scope.project, "model": scope.model, "root": scope.root}
    repair = ReconcileStagesOperator(task_id="repair", **about)
    missed = FindMissedVersionOperator(task_id="missed_version", **about)
    repair >> missed >> request_missed_promotion(scope, missed="missed_version")
