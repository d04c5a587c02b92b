"""retraining: whether to train again, and why (or why not).

One Airflow DAG for every model.
"""

from penstock.operators.monitoring import DecideRetrainingOperator, trigger_training
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", triggered_by=lambda scope: [scope.monitored])
def retraining(scope: Scope) -> None:
    """Decides by declared rules whether the model is trained again, records the decision, and follows it.

    Quality below what was promised or drift of the predictions retrains, if there are enough new labels, no
    cool-down and no open data-quality failure. Every decision stands in `retraining_decisions`, "no" too.
    """
    decide = DecideRetrainingOperator(task_id="decide", project=scope.project, model=scope.model, root=scope.root)
    decide >> trigger_training(scope, decision="decide")
