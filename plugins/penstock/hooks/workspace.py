"""The hook that every operator uses: the workspace of this Airflow's environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from penstock.errors import SpecError
from penstock.spec.environment import Environment
from penstock.spec.loading import given_project
from penstock.workspace import Connections, Lineage, SessionKey, Workspace


class WorkspaceHook(BaseHook):
    """Opens the workspace whose Spark and MLflow are the Airflow connections, where these exist.

    :param root: the folder that holds include/.
    :param spark_conn_id: host `sc://…` and port; the password is the token.
    :param mlflow_conn_id: schema, host, port, login and password.
    :param declaration: a project given in place (the content of a project.yaml), instead of by folder.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        spark_conn_id: str = "penstock_spark",
        mlflow_conn_id: str = "penstock_mlflow",
        declaration: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.spark_conn_id = spark_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.declaration = declaration

    def workspace(self, lineage: Lineage, session_key: SessionKey | None = None) -> Workspace:
        """The workspace, ready for a task. Raises SpecError for a wrong declaration, or half the connections."""
        found = Workspace.open(root=self.root)
        if self.declaration is not None:
            found = found.with_(inline=(given_project(self.declaration, self.root),))
        return found.with_(connections=self.connections(found.environment), lineage=lineage, session_key=session_key)

    def connections(self, environment: Environment) -> Connections | None:
        """Spark and MLflow by the Airflow connections; None (the environment file decides) where there are none.

        Raises SpecError where there is one of the two: it would not be used, and who made it would not know.
        """
        spark, mlflow = self._connection(self.spark_conn_id), self._connection(self.mlflow_conn_id)
        if spark is None and mlflow is None:
            return None
        if spark is None or mlflow is None:
            given, missing = (self.spark_conn_id, self.mlflow_conn_id)[:: 1 if mlflow is None else -1]
            raise SpecError(
                f"Airflow has the connection {given}, but no {missing}: add that one, too, or remove {given}, and what "
                f"include/environments/{environment.name}.yaml says counts"
            )
        spark_host = (spark.host or "localhost").removeprefix("sc://")
        mlflow_host = (mlflow.host or "localhost").rpartition("://")[2]
        return Connections(
            spark_url=f"sc://{spark_host}:{spark.port or 15002}",
            spark_token=spark.password or None,
            mlflow_uri=f"{mlflow.schema or 'http'}://{mlflow_host}:{mlflow.port or 5000}",
            registry_uri=environment.mlflow.registry_uri,
            mlflow_username=mlflow.login or None,
            mlflow_password=mlflow.password or None,
        )

    def _connection(self, conn_id: str) -> Connection | None:
        try:
            return self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None
