"""A workspace: one environment and the projects beside it; what every function of the library starts from."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import now, parse_as_of, read_replay_clock
from penstock.errors import SpecError
from penstock.home import environment_name, read_credentials
from penstock.home import root as repository_root
from penstock.lakehouse.addresses import Address, Addresses
from penstock.spec.environment import LOCAL, Environment
from penstock.spec.loading import LoadedProject, load_environment, load_project, project_names
from penstock.spec.project import FeatureTable, Source

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""Keeps MLflow's progress bars and links out of logs and answers, unless the environment asks for them."""


@dataclass(frozen=True)
class Connections:
    """Where Spark and MLflow are, and the logins. Never printed."""

    spark_url: str
    mlflow_uri: str
    registry_uri: str | None = None
    spark_token: str | None = field(default=None, repr=False)
    mlflow_username: str | None = None
    mlflow_password: str | None = field(default=None, repr=False)

    def apply_to_mlflow(self) -> None:
        """Points MLflow's client in this process at the server."""
        import mlflow

        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        mlflow.set_tracking_uri(self.mlflow_uri)
        mlflow.set_registry_uri(self.registry_uri or self.mlflow_uri)
        if self.mlflow_username:
            os.environ["MLFLOW_TRACKING_USERNAME"] = self.mlflow_username
        if self.mlflow_password:
            os.environ["MLFLOW_TRACKING_PASSWORD"] = self.mlflow_password


@dataclass(frozen=True)
class Lineage:
    """Who runs: recorded with everything that is written (rule 8)."""

    run: str = "python"
    url: str | None = None


@dataclass(frozen=True)
class SessionKey:
    """What the Spark session of a task's try is derived from, so that a later try can interrupt it."""

    task: str
    try_number: int = 1


@dataclass(frozen=True)
class Workspace:
    """One environment, its connections, and the projects under `root`/include."""

    root: Path
    environment: Environment
    connections: Connections | None = None
    lineage: Lineage = Lineage()
    session_key: SessionKey | None = None
    inline: tuple[LoadedProject, ...] = ()

    @classmethod
    def open(cls, environment: str | None = None, root: str | Path | None = None) -> "Workspace":
        """The workspace of an environment (PENSTOCK_ENV by default).

        Raises SpecError where the environment's file is missing or wrong.
        """
        folder = Path(root) if root else repository_root()
        return cls(folder, load_environment(folder, environment or environment_name()))

    def with_(self, **changes: object) -> "Workspace":
        """A copy with other connections, lineage or session key."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def addresses(self) -> Addresses:
        """Resolves table addresses."""
        return Addresses(self.environment.lakehouse)

    @property
    def project_names(self) -> list[str]:
        """The folders under include/projects."""
        return project_names(self.root)

    def project(self, name: str) -> LoadedProject:
        """A project by name: one given in place, else a folder's. Raises SpecError for an unknown or a broken one."""
        for given in self.inline:
            if given.name == name:
                return given
        if name not in self.project_names:
            known = ", ".join(self.project_names) or "none"
            raise SpecError(f"unknown project {name!r} in {self.root / 'include/projects'} (there are: {known})")
        return load_project(self.root, name)

    def declared_table(self, address: Address) -> Source | FeatureTable | None:
        """The declaration of a source or feature table, of whatever project; None where there is none.

        Raises SpecError for an unknown project.
        """
        spec = self.project(address.project).spec
        return spec.sources.get(address.table) or spec.feature_tables.get(address.table)

    def moment(self, as_of: datetime | str | None = None) -> datetime:
        """A given moment, else the environment's replay clock, else now. Raises ClockError for a text that is none."""
        if as_of is not None:
            return parse_as_of(as_of)
        return read_replay_clock(self.environment.replay_clock) or now()

    @property
    def uses_local_stack(self) -> bool:
        """Whether Spark or MLflow are those of this machine's local stack."""
        return LOCAL in (self.environment.spark.address, self.environment.mlflow.tracking_uri)

    @cached_property
    def resolved(self) -> Connections:
        """The connections: those given, else the environment's, else the local stack's."""
        if self.connections is not None:
            return self.connections
        spark, mlflow = self.environment.spark, self.environment.mlflow
        if not self.uses_local_stack:
            return Connections(
                spark_url=spark.address,
                mlflow_uri=mlflow.tracking_uri,
                registry_uri=mlflow.registry_uri,
                spark_token=os.environ.get("SPARK_CONNECT_AUTHENTICATE_TOKEN"),
                mlflow_username=os.environ.get("MLFLOW_TRACKING_USERNAME"),
                mlflow_password=os.environ.get("MLFLOW_TRACKING_PASSWORD"),
            )
        local = read_credentials(self.environment.name)
        own_spark, own_mlflow = spark.address == LOCAL, mlflow.tracking_uri == LOCAL
        return Connections(
            spark_url=local.spark.url if own_spark else spark.address,
            mlflow_uri=local.mlflow.url if own_mlflow else mlflow.tracking_uri,
            registry_uri=mlflow.registry_uri,
            spark_token=local.spark.token if own_spark else os.environ.get("SPARK_CONNECT_AUTHENTICATE_TOKEN"),
            mlflow_username=local.mlflow.username if own_mlflow else os.environ.get("MLFLOW_TRACKING_USERNAME"),
            mlflow_password=local.mlflow.password if own_mlflow else os.environ.get("MLFLOW_TRACKING_PASSWORD"),
        )

    @contextmanager
    def spark(self) -> Iterator["SparkSession"]:
        """A Spark Connect session, stopped on leaving.

        With a session key, the sessions of the task's earlier tries are interrupted first, so that no
        query of a killed try commits behind this one's back. Raises ServiceError where the server does not answer.
        """
        from penstock.lakehouse.session import connect

        key = self.session_key or SessionKey(f"{uuid.uuid4()}")
        with connect(self.resolved.spark_url, self.resolved.spark_token, key.task, key.try_number) as session:
            yield session

    def mlflow(self) -> None:
        """Points MLflow's client in this process at this environment's servers."""
        self.resolved.apply_to_mlflow()
