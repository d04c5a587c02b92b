"""quarantine_release: rows that failed a gate get back, by a person's decision.

One Airflow DAG for every project.
"""

from penstock.operators.quarantine import RELEASE_PARAMS, ReleaseRowsOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="project", params=RELEASE_PARAMS)
def quarantine_release(scope: Scope) -> None:
    """Accepts rows in quarantine as they are, or takes corrected rows from a file; then the tables are refreshed.

    Started by people, in Airflow or by its REST API. Deciding twice changes nothing.
    """
    ReleaseRowsOperator(task_id="release", project=scope.project, root=scope.root, outlets=[scope.raw_data])
