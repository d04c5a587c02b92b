"""feature_refresh: raw data lands, feature tables follow, nothing unchecked is ever read.

One Airflow DAG for every project.
"""

from airflow.sdk import TaskGroup, TriggerRule

from penstock.operators.features import (
    CompareOnlineOperator,
    FeaturesRefreshedOperator,
    LandSourceOperator,
    MergeBatchOperator,
    PublishOnlineOperator,
    StageFeatureTableOperator,
    ValidateBatchOperator,
)
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="project", triggered_by=lambda scope: [scope.raw_data, *scope.shared_features])
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
