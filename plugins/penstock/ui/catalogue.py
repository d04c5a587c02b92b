"""What there is to be shown: names from an address are looked up here, and nothing else reaches a path."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends

from penstock.errors import PenstockError
from penstock.features.table_info import describe_table, table_names
from penstock.home import root as repository_root
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.system_tables import SYSTEM_TABLES
from penstock.spec.loading import LoadedProject
from penstock.ui.access import Reader
from penstock.ui.faults import BrokenProject, UnknownPage
from penstock.workspace import Lineage, Workspace


class TableKind(StrEnum):
    """Where a table comes from."""

    SOURCE = "raw table"
    FEATURES = "feature table"
    OWN = "table made by hand"
    MODEL = "table of a model"
    SYSTEM = "table of records"

    @property
    def plural(self) -> str:
        """Several of the kind."""
        return {
            "OWN": "tables made by hand",
            "MODEL": "tables of models",
            "SYSTEM": "records of gates and decisions",
        }.get(self.name, f"{self}s")


@dataclass(frozen=True)
class KnownTable:
    """A table that the project declares, or that Penstock keeps for it. `time`: the column that says how new a row is.

    `comments` maps a column to what the declaration says of it.
    """

    project: str
    name: str
    kind: TableKind
    description: str
    owner: str
    keys: tuple[str, ...]
    time: str | None
    comments: dict[str, str]
    pipeline: str

    @property
    def declared(self) -> bool:
        """Whether project.yaml names it, so that it is missed where it is not there."""
        return self.kind in (TableKind.SOURCE, TableKind.FEATURES)


def open_workspace() -> Workspace:
    """This environment's workspace; Spark and MLflow by Airflow's connections, as tasks find them."""
    from penstock.hooks.workspace import WorkspaceHook

    return WorkspaceHook(root=repository_root()).workspace(Lineage())


CurrentWorkspace = Annotated[Workspace, Depends(open_workspace)]


def find_project(workspace: Workspace, reader: Reader, name: str) -> LoadedProject:
    """A project that the user may read. Raises MayNotRead, UnknownPage, BrokenProject."""
    reader.require(name)
    if name not in workspace.project_names:
        raise UnknownPage(
            f"There is no project {name!r} in this environment.",
            "Its folder under include/projects may be missing here, or the address is misspelt.",
        )
    try:
        return workspace.project(name)
    except PenstockError as error:
        raise BrokenProject(str(error), f"Mend include/projects/{name}, then run `penstock validate`.") from error


def find_table(workspace: Workspace, project: LoadedProject, name: str) -> KnownTable:
    """A table of a project by name. Raises UnknownPage."""
    tables = known_tables(workspace, project)
    if name not in tables:
        raise UnknownPage(f"The project {project.name} has no table {name!r}.", f"It has: {', '.join(tables)}.")
    return tables[name]


def check_model(project: LoadedProject, name: str) -> str:
    """The name, if the project has such a model. Raises UnknownPage."""
    if name not in project.spec.models:
        known = ", ".join(project.spec.models) or "none"
        raise UnknownPage(f"The project {project.name} has no model {name!r}.", f"It has: {known}.")
    return name


def known_tables(workspace: Workspace, project: LoadedProject) -> dict[str, KnownTable]:
    """Every table that a project may have, by name: raw, feature, made by hand, a model's, Penstock's records."""
    spec, found = project.spec, []
    for name, source in spec.sources.items():
        comments = {column: about.description for column, about in source.columns.items()}
        found.append(KnownTable(
            spec.name, name, TableKind.SOURCE, source.description, source.owner or spec.owner,
            tuple(source.primary_keys), source.available_at, comments, "feature_refresh",
        ))  # fmt: skip
    for name, table in spec.feature_tables.items():
        comments = {column: about.description for column, about in table.columns.items()}
        found.append(KnownTable(
            spec.name, name, TableKind.FEATURES, table.description, table.owner or spec.owner,
            tuple(table.key_columns), table.event_time, comments, "feature_refresh",
        ))  # fmt: skip
    found += _own_tables(workspace, project)
    for name, model in spec.models.items():
        keys = (*model.entity.keys, "prediction_time")
        about = {
            "training_set": (f"What the newest version of {name} was trained on.", "training"),
            "predictions": (f"Predictions of {name}: {model.description}", "batch_inference"),
        }
        for suffix, (description, pipeline) in about.items():
            found.append(KnownTable(
                spec.name, f"{name}_{suffix}", TableKind.MODEL, description, model.owner or spec.owner,
                keys, "prediction_time", {}, f"{name}.{pipeline}",
            ))  # fmt: skip
    for kept, definition in SYSTEM_TABLES.items():
        found.append(KnownTable(
            spec.name, str(kept), TableKind.SYSTEM, definition.description, spec.owner, definition.keys, "as_of",
            {}, "",
        ))  # fmt: skip
    return {table.name: table for table in found}


def _own_tables(workspace: Workspace, project: LoadedProject) -> list[KnownTable]:
    """The tables that people made by FeatureStore.create_table."""
    declared = {*project.spec.sources, *project.spec.feature_tables}
    names = [Address.parse(name) for name in table_names(workspace, project.name)]
    found = [describe_table(workspace, name) for name in names if name.table not in declared]
    return [
        KnownTable(
            project.name, info.name.partition(".")[2], TableKind.OWN, info.description, info.owner,
            (*info.primary_keys, str(info.timestamp_key)), info.timestamp_key, {}, "",
        )
        for info in found
    ]  # fmt: skip
