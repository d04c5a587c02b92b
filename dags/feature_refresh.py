"""feature_refresh: raw data lands, feature tables follow, nothing unchecked is ever read.

One Airflow DAG for every project.
"""

from airflow.sdk import Param, TaskGroup, TriggerRule

from penstock.operators.features import (
    CompareOnlineOperator,
    FeaturesRefreshedOperator,
    LandSourceOperator,
    MergeBatchOperator,
    PublishOnlineOperator,
    StageFeatureTableOperator,
    ValidateBatchOperator,
)
from penstock.pipelines import TIMESTAMP, pipeline
from penstock.scope import Scope

BACKFILL = {
    "backfill": Param(
        None, type=["null", "string"], title="backfill",
        description="Feature tables whose rows are computed again, with commas between them: after their "
        "transformation was changed. In pieces; a run after a failed one goes on with the piece that was not finished.",
    ),
    "backfill_from": Param(
        None, type=["null", "string"], title="backfill from", pattern=TIMESTAMP,
        description="Only event times after this moment. Empty: from the first.",
    ),
    "backfill_until": Param(
        None, type=["null", "string"], title="backfill until", pattern=TIMESTAMP,
        description="Only event times up to this moment. Empty: to the last.",
    ),
    "backfill_piece": Param(
        None, type=["null", "string"], title="backfill piece", pattern=r"^\s*\d+\s*(d|w)\s*$",
        description="How much time a piece covers at most, such as 7d. Empty: whole days of up to a million rows.",
    ),
}  # fmt: skip


@pipeline(per="project", params=BACKFILL, triggered_by=lambda scope: [scope.raw_data, *scope.shared_features])
def feature_refresh(scope: Scope) -> None:
    """Lands raw data and refreshes the project's feature tables.

    For each feature table, in the order of its inputs: what changed is computed into a staging table,
    validated there (bad rows go to `quarantine`, a critical failure stops the table), and merged.
    A task with nothing to do is skipped. It runs after the refresh of any project whose features this one shares.
    """
    with TaskGroup("land", tooltip="what became known, behind quality gates"):
        done = {
            name: LandSourceOperator(task_id=name, project=scope.project, source=name, root=scope.root)
            for name in scope.landed_sources
        }
    for name in scope.feature_tables:
        with TaskGroup(name, tooltip=scope.project_spec.spec.feature_tables[name].description):
            staged = StageFeatureTableOperator(
                task_id="stage", project=scope.project, table=name, root=scope.root,
                trigger_rule=TriggerRule.NONE_FAILED,
            )  # fmt: skip
            checked = ValidateBatchOperator(
                task_id="validate", project=scope.project, batch=staged.output, root=scope.root
            )
            merged = MergeBatchOperator(task_id="merge", project=scope.project, checked=checked.output, root=scope.root)
            staged >> checked >> merged
        [done[table] for table in scope.project_spec.spec.feature_tables[name].inputs if table in done] >> staged
        done[name] = merged
    refreshed = FeaturesRefreshedOperator(
        task_id="refreshed", project=scope.project, tables=scope.feature_tables, root=scope.root,
        outlets=[scope.features], trigger_rule=TriggerRule.NONE_FAILED,
    )  # fmt: skip
    read = {table for spec in scope.project_spec.spec.feature_tables.values() for table in spec.inputs}
    [task for table, task in done.items() if table not in read] >> refreshed
    online = [done[name] for name in scope.feature_tables if name in scope.online_tables]
    if online:
        publish = PublishOnlineOperator(
            task_id="publish_online", project=scope.project, root=scope.root, trigger_rule=TriggerRule.ALL_DONE
        )
        compare = CompareOnlineOperator(task_id="compare_online", project=scope.project, root=scope.root)
        online >> publish >> compare
