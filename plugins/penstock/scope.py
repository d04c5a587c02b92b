"""What a pipeline function is about: a project (and a model) in an environment, and the assets between pipelines."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from airflow.sdk import Asset, AssetWatcher

from penstock.lakehouse.addresses import Addresses
from penstock.spec.environment import Environment
from penstock.spec.graph import feature_table_order, used_projects
from penstock.spec.loading import LoadedProject, project_names
from penstock.spec.project import Model
from penstock.triggers.table_version import TableVersionTrigger

_PER_PROJECT = (
    "feature_refresh", "feature_stream", "table_maintenance", "quarantine_release", "undeclared_versions",
)  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """What a pipeline function gets: a project (and a model), the environment, and the assets between pipelines."""

    root: Path
    environment: Environment
    project_spec: LoadedProject
    model: str = ""

    @property
    def project(self) -> str:
        """The project's name."""
        return self.project_spec.name

    @property
    def model_spec(self) -> Model:
        """The model's declaration."""
        return self.project_spec.model(self.model)

    @property
    def landed_sources(self) -> list[str]:
        """The raw tables that the project lands itself."""
        return [name for name, source in self.project_spec.spec.sources.items() if source.land]

    @property
    def fed_sources(self) -> list[str]:
        """The raw tables that others fill."""
        return [name for name, source in self.project_spec.spec.sources.items() if not source.land]

    @cached_property
    def feature_tables(self) -> list[str]:
        """The feature tables, each after its inputs."""
        return feature_table_order(self.project_spec.spec)

    @property
    def online_tables(self) -> list[str]:
        """The feature tables whose newest values are kept in an online store."""
        tables = self.project_spec.spec.feature_tables
        return [name for name in self.feature_tables if tables[name].online_settings is not None]

    def dag_id(self, pipeline: str) -> str:
        """The id of another pipeline's DAG for the same project or model."""
        return f"{self.project}.{pipeline}" if pipeline in _PER_PROJECT else f"{self.project}.{self.model}.{pipeline}"

    @property
    def raw_data(self) -> Asset:
        """Others tell by an event of this asset that raw data arrived; watchers see it in the tables of `watch`."""
        addresses = Addresses(self.environment.lakehouse)
        watchers = []
        for name, source in self.project_spec.spec.sources.items():
            if source.watch:
                address = f"{self.project}.{name}"
                trigger = TableVersionTrigger(
                    path=addresses.writable(address), address=address, every=source.watch.total_seconds()
                )
                watchers.append(AssetWatcher(name=address, trigger=trigger))
        return self._named(self.project, "raw_data", watchers=watchers)

    @property
    def features(self) -> Asset:
        """The project's feature tables were refreshed."""
        return self._features_of(self.project)

    @property
    def shared_features(self) -> list[Asset]:
        """The features of the other projects that this one reads, where they are refreshed in this Airflow."""
        here = project_names(self.root)
        return [self._features_of(name) for name in used_projects(self.project_spec.spec) if name in here]

    @property
    def production(self) -> Asset:
        """The model's production version changed."""
        return self._asset("production", self.model)

    @property
    def predictions(self) -> Asset:
        """The model's predictions were written."""
        return self._asset("predictions", self.model)

    @property
    def monitored(self) -> Asset:
        """A window of the model was monitored."""
        return self._asset("monitored", self.model)

    def _asset(self, what: str, model: str = "") -> Asset:
        return self._named(*(part for part in (self.project, model, what) if part))

    def _features_of(self, project: str) -> Asset:
        return self._named(project, "features")

    def _named(self, *parts: str, watchers: Sequence[AssetWatcher] = ()) -> Asset:
        return Asset(
            name=".".join(parts),
            uri=f"penstock://{self.environment.name}/{'/'.join(parts)}",
            group="penstock",
            watchers=list(watchers),
        )
