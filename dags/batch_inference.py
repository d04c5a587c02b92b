"""batch_inference: the production version scores what came since, each row once.

One Airflow DAG for every model.
"""

from penstock.operators.inference import PublishPredictionsOperator, ScoreBatchOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", triggered_by=lambda scope: [scope.features, scope.production])
def batch_inference(scope: Scope) -> None:
    """Scores the entity rows with prediction time in (last scored, as_of] and publishes them to the sinks.

    Without a production version, or without new rows, it says so and skips.
    """
    about = {"project": scope.project, "model": scope.model, "root": scope.root}
    score = ScoreBatchOperator(task_id="score", **about)
    publish = PublishPredictionsOperator(task_id="publish", scored=score.output, outlets=[scope.predictions], **about)
    score >> publish
