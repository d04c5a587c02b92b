"""undeclared_versions: what was registered under a name of the project that it does not declare.

One Airflow DAG for every project.
"""

from penstock.operators.candidates import JudgeUndeclaredOperator
from penstock.pipelines import pipeline
from penstock.scope import Scope


@pipeline(per="project", every=lambda scope: scope.environment.reconcile_registry)
def undeclared_versions(scope: Scope) -> None:
    """Gives versions of models that the project does not declare the verdict that says what to do.

    A misspelt name, or code that is not deployed yet: no other DAG is theirs.
    """
    JudgeUndeclaredOperator(task_id="judge", project=scope.project, root=scope.root)
