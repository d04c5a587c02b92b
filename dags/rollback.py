"""rollback: the former production version is production again.

One Airflow DAG for every model.
"""

from penstock.operators.releases import ROLLBACK_PARAMS, RollbackOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", params=ROLLBACK_PARAMS)
def rollback(scope: Scope) -> None:
    """Puts the former production version back, in the name of who starts the run, with the reason that they give.

    The version that leaves is archived, and not promoted again until promotion_control allows it. The next
    scoring uses the former version.
    """
    RollbackOperator(
        task_id="rollback", project=scope.project, model=scope.model, root=scope.root, outlets=[scope.production]
    )
