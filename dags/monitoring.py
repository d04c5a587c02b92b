"""monitoring: what the production version predicted, beside what was promised.

One Airflow DAG for every model.
"""

from airflow.sdk import TriggerRule

from penstock.operators.monitoring import (
    IngestLogsOperator,
    MeasureDriftOperator,
    MeasureInfrastructureOperator,
    MeasureQualityOperator,
    PublishMetricsOperator,
)
from penstock.operators.releases import AnnounceProductionOperator, FollowUpOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="model", triggered_by=lambda scope: [scope.predictions])
def monitoring(scope: Scope) -> None:
    """Measures the newest window of predictions: drift, quality on the labels that arrived, infrastructure.

    Rows go to `monitoring_metrics`; passed thresholds to `alerts`. Where the model declares it
    (`promotion.follow_up`), the first windows of a new version are held against its promise, and a version that
    breaks it is rolled back.
    """
    about = {"project": scope.project, "model": scope.model, "root": scope.root}
    window = IngestLogsOperator(task_id="ingest_logs", **about)
    measures = [
        MeasureDriftOperator(task_id="drift", window=window.output, **about),
        MeasureQualityOperator(task_id="quality", window=window.output, **about),
        MeasureInfrastructureOperator(task_id="infrastructure", window=window.output, **about),
    ]
    publish = PublishMetricsOperator(
        task_id="publish", window=window.output, measures=[measure.output for measure in measures],
        outlets=[scope.monitored], **about,
    )  # fmt: skip
    window >> measures >> publish
    if scope.model_spec.promotion.follow_up:
        # also where nothing is new: a follow-up that failed before is made up for
        follow_up = FollowUpOperator(task_id="follow_up", trigger_rule=TriggerRule.NONE_FAILED, **about)
        publish >> follow_up >> AnnounceProductionOperator(
            task_id="announce_rollback", outlets=[scope.production], **about
        )  # fmt: skip
