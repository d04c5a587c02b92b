"""promotion_control: people stop a model's promotions, let them go on, let a version come back, or adopt one.

One Airflow DAG for every model.
"""

from penstock.operators.releases import CONTROL_PARAMS, PromotionControlOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", params=CONTROL_PARAMS)
def promotion_control(scope: Scope) -> None:
    """Freezes the model (no version is promoted until unfreeze), allows a version that was rolled back, or adopts one.

    Rollback works in a frozen model, too. To adopt is to take responsibility for a version that this environment's
    reviewed code did not train; its gates are still to pass. Each decision goes to the audit with its reason, in the
    name of who starts the run; where people approve, unfreeze, allow and adopt are for the environment's approvers.
    """
    PromotionControlOperator(task_id="decide", project=scope.project, model=scope.model, root=scope.root)
