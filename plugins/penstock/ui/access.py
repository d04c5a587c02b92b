"""Who may see what: a project's pages are for those who may read its DAGs, by Airflow's own auth manager."""

from dataclasses import dataclass
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends

from penstock.ui.faults import MayNotRead


@dataclass(frozen=True)
class Reader:
    """The logged-in user."""

    user: Any

    @property
    def name(self) -> str:
        """What Airflow calls the user."""
        return str(self.user.get_name())

    def may_read(self, project: str) -> bool:
        """Whether the user may read the project's DAG of feature_refresh, and with it the project."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

        dag_id = f"{project}.feature_refresh"
        details = DagDetails(id=dag_id, team_name=_team(dag_id))
        return bool(get_auth_manager().is_authorized_dag(method="GET", details=details, user=self.user))

    def require(self, project: str) -> None:
        """Raises MayNotRead; the same for projects that do not exist."""
        if not self.may_read(project):
            raise MayNotRead(
                f"{self.name} may not read the DAG {project}.feature_refresh, and so not these pages",
                "Ask an administrator of this Airflow for the right to read the project's DAGs.",
            )


def _team(dag_id: str) -> str | None:
    from airflow.configuration import conf

    if not conf.getboolean("core", "multi_team", fallback=False):
        return None
    from airflow.models.dag import DagModel

    return DagModel.get_team_name(dag_id)


def current_reader(user: Annotated[Any, Depends(get_user)]) -> Reader:
    """The user of a request; 401 without a valid login."""
    return Reader(user)


CurrentReader = Annotated[Reader, Depends(current_reader)]
