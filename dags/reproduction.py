"""reproduction: a registered version is built again from its record, and compared row by row.

One Airflow DAG for every model.
"""

from airflow.sdk import Param

from penstock.operators.reproduction import ReproduceModelOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope

VERSION = Param(
    None, type=["null", "integer"], minimum=1, title="model version",
    description="The registered version to build again.",
)  # fmt: skip


@pipeline(per="model", params={"model_version": VERSION})
def reproduction(scope: Scope) -> None:
    """Proves that a version can be built again: its commit, table versions, parameters and seed; nothing is deployed.

    It fails where metrics or predictions differ, with the likely cause. The verdict stays with the version.
    """
    ReproduceModelOperator(task_id="reproduce", project=scope.project, model=scope.model, root=scope.root)
