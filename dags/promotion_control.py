"""promotion_control: people stop a model's promotions, let them go on, or let a version come back.

One Airflow DAG for every model.
"""

from penstock.operators.releases import CONTROL_PARAMS, PromotionControlOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", params=CONTROL_PARAMS)
def promotion_control(scope: Scope) -> None:
    """Freezes the model (no version is promoted until unfreeze), or allows a version that was rolled back.

    Rollback works in a frozen model, too. Each decision goes to the audit with its person and reason.
    """
    PromotionControlOperator(task_id="decide", project=scope.project, model=scope.model, root=scope.root)
