"""table_maintenance: small files are joined, old ones removed, what a registered model needs stays.

One Airflow DAG for every project.
"""

from airflow.sdk import Param

from penstock.operators.maintenance import MaintainTablesOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope

DRY_RUN = Param(False, type="boolean", title="dry run", description="Only says what would be removed.")
RETENTION = Param(
    None, type=["null", "string"], title="retention", pattern=r"^\d+[smhdw]$",
    description="How long files of older versions stay, such as 14d; the environment's by default.",
)  # fmt: skip


@pipeline(per="project", params={"dry_run": DRY_RUN, "retention": RETENTION})
def table_maintenance(scope: Scope) -> None:
    """Joins small files of the project's tables and removes what is older than the retention.

    Versions that a registered model was trained from stay readable, and so do changes that a feature table or an
    online store has not read yet.
    """
    MaintainTablesOperator(task_id="maintain", project=scope.project, root=scope.root)
