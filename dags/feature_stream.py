"""feature_stream: the features follow the raw tables that others fill, by Structured Streaming.

One Airflow DAG for every project that has such tables.
"""

from airflow.sdk import Param

from penstock.operators.features import FeaturesRefreshedOperator
from penstock.operators.streaming import StreamFeaturesOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope

_DURATION = r"^\d+[smhdw]$"
EVERY = Param(
    "10s", type="string", pattern=_DURATION, title="every", description="The least time between two micro-batches."
)
LASTING = Param(
    None, type=["null", "string"], pattern=_DURATION, title="lasting",
    description="How long it follows, such as 1h; empty: it ends once everything that is there has been refreshed.",
)  # fmt: skip


@pipeline(per="project", applies=lambda scope: bool(scope.fed_sources), params={"every": EVERY, "lasting": LASTING})
def feature_stream(scope: Scope) -> None:
    """Refreshes the project's features for each micro-batch of changes in its raw tables.

    It ends when it has caught up (available-now), or after `lasting`; meanwhile it holds one worker slot. To follow
    for ever, `watch` the tables instead, or run `penstock stream` beside Airflow. A later run goes on from there.
    """
    streamed = StreamFeaturesOperator(
        task_id="stream", project=scope.project, root=scope.root,
        every="{{ params.every }}", lasting="{{ params.lasting }}",
    )  # fmt: skip
    refreshed = FeaturesRefreshedOperator(
        task_id="refreshed", project=scope.project, tables=scope.feature_tables, root=scope.root,
        outlets=[scope.features],
    )  # fmt: skip
    streamed >> refreshed
