"""What a table is, for people: keys, event time, owner, tags, columns, version, rows, inputs, freshness.

A declared table is described by its project.yaml; one that was made by `FeatureStore.create_table` by its own
Delta metadata. There is no catalogue beside the two.
"""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import latest_record
from penstock.lakehouse.table_properties import (
    AVAILABLE_AT,
    EVENT_TIME,
    OWNER,
    TAGS,
    is_made_by_client,
    stored_keys,
    stored_online,
    stored_types,
)
from penstock.spec.faults import suggestion
from penstock.spec.project import FeatureTable, Online, Source
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable


class TableKind(StrEnum):
    """What a table is to its project."""

    SOURCE = "raw table"
    FEATURES = "feature table"
    OTHER = "table"


@dataclass(frozen=True)
class ColumnInfo:
    """A column: its Spark SQL type and what it means."""

    name: str
    type: str
    description: str = ""


@dataclass(frozen=True)
class TableInfo:
    """A table's description. `version` is None where it is declared but was never filled.

    name: `project.table`. timestamp_key: the column from which (feature table) or at which (raw table) a row may be
    used. declared: whether a project.yaml names it. rows: None where the log does not count them. inputs: the table
    versions that the newest version was made from. as_of: up to when it was filled; latest: its newest timestamp.
    online: where its newest values are served from; None where they are not.
    """

    name: str
    kind: TableKind
    declared: bool
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    primary_keys: tuple[str, ...] = ()
    timestamp_key: str | None = None
    columns: tuple[ColumnInfo, ...] = ()
    path: str | None = None
    version: int | None = None
    rows: int | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)
    as_of: str | None = None
    latest: str | None = None
    run: str | None = None
    code: str | None = None
    online: Online | None = None

    @property
    def column_names(self) -> list[str]:
        """The columns' names in order."""
        return [column.name for column in self.columns]

    @property
    def features(self) -> list[str]:
        """The columns that are neither key nor timestamp."""
        return [name for name in self.column_names if name not in (*self.primary_keys, self.timestamp_key)]

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        state = f"version {self.version}, {self.rows} rows" if self.version is not None else "not filled yet"
        facts = {
            "owner": self.owner, "tags": ", ".join(f"{key}={value}" for key, value in self.tags.items()),
            "primary keys": ", ".join(self.primary_keys), "timestamp key": self.timestamp_key or "", "state": state,
            "online": f"store {self.online.store}" if self.online is not None else "",
            "filled as of": self.as_of or "", "newest": self.latest or "",
            "made from": ", ".join(f"{name}@{number}" for name, number in self.inputs.items()),
        }  # fmt: skip
        lines = _html_rows((key, value) for key, value in facts.items() if value)
        columns = _html_rows((column.name, column.type, column.description) for column in self.columns)
        title = f"<b>{html.escape(self.name)}</b> ({self.kind}): {html.escape(self.description)}"
        return f"<p>{title}</p><table>{lines}</table><table>{columns}</table>"


def _html_rows(rows: Iterable[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "".join(f"<tr>{row}</tr>" for row in cells)


def describe_table(workspace: Workspace, address: Address) -> TableInfo:
    """A table's description. Raises TableError for one that is neither declared nor there, with the closest names."""
    path = workspace.addresses.find(address)
    declared = declaration(workspace, address)
    if path is None and declared is None:
        known = [info.rpartition(".")[2] for info in table_names(workspace, address.project)]
        hint = suggestion(address.table, known, "tables")
        raise TableError(f"there is no table {address} in {workspace.environment.name}: {hint}")
    return _describe(workspace, Address(address.project, address.table, address.root), path, declared)


def declaration(workspace: Workspace, address: Address) -> Source | FeatureTable | None:
    """What project.yaml says of a table; None where it says nothing, or there is no such project."""
    if address.project not in {*workspace.project_names, *(project.name for project in workspace.inline)}:
        return None
    spec = workspace.project(address.project).spec
    return spec.sources.get(address.table) or spec.feature_tables.get(address.table)


def table_names(workspace: Workspace, project: str) -> list[str]:
    """The raw and feature tables of a project, declared or made by a FeatureStore, as `project.table`."""
    spec = workspace.project(project).spec
    names = [*spec.sources, *spec.feature_tables]
    made = [
        name
        for name, path in workspace.addresses.tables(project).items()
        if name not in names and is_made_by_client(path)
    ]
    return [f"{project}.{name}" for name in [*names, *made]]


def find_tables(
    workspace: Workspace, projects: Iterable[str], text: str = "", tags: Mapping[str, str] | None = None,
    owner: str | None = None,
) -> list[TableInfo]:  # fmt: skip
    """Tables whose names, descriptions and columns hold every word of `text`, with these tags and this owner."""
    words = text.lower().split()
    found = []
    for project in projects:
        for name in table_names(workspace, project):
            info = describe_table(workspace, Address.parse(name))
            about = [info.name, info.description, info.owner, *(f"{key} {value}" for key, value in info.tags.items())]
            about += [f"{column.name} {column.description}" for column in info.columns]
            said = " ".join(about).lower()
            tagged = all(info.tags.get(key) == value for key, value in (tags or {}).items())
            if tagged and all(word in said for word in words) and owner in (None, info.owner):
                found.append(info)
    return found


def _describe(
    workspace: Workspace, address: Address, path: str | None, declared: Source | FeatureTable | None
) -> TableInfo:
    from deltalake import DeltaTable

    known = _declared(workspace, address, declared) if declared is not None else None
    if path is None and known is not None:
        return known
    table = DeltaTable(str(path))
    about = known or _stored(address, table)
    comments = {column.name: column.description for column in about.columns}
    record = latest_record(table)
    rows, latest = _statistics(table, about.timestamp_key)
    return replace(
        about, columns=tuple(_columns(table, comments)),
        path=path, version=table.version(), rows=rows, latest=latest,
        inputs=record.inputs if record else {}, as_of=record.as_of if record else None,
        run=record.run if record else None, code=record.code if record else None,
    )  # fmt: skip


def _declared(workspace: Workspace, address: Address, declared: Source | FeatureTable) -> TableInfo:
    spec = workspace.project(address.project).spec
    is_source = isinstance(declared, Source)
    return TableInfo(
        name=str(address), kind=TableKind.SOURCE if is_source else TableKind.FEATURES, declared=True,
        description=declared.description, owner=declared.owner or spec.owner, tags=spec.tags,
        primary_keys=tuple(declared.primary_keys),
        timestamp_key=declared.available_at if isinstance(declared, Source) else declared.event_time,
        columns=tuple(ColumnInfo(name, str(column.type), column.description)
                      for name, column in declared.columns.items()),
        online=None if isinstance(declared, Source) else declared.online_settings,
    )  # fmt: skip


def _stored(address: Address, table: "DeltaTable") -> TableInfo:
    """What a table's own metadata say of it."""
    metadata = table.metadata()
    properties = metadata.configuration
    time = properties.get(EVENT_TIME) or properties.get(AVAILABLE_AT)
    return TableInfo(
        name=str(address), kind=TableKind.FEATURES if EVENT_TIME in properties else TableKind.OTHER, declared=False,
        description=metadata.description or "", owner=properties.get(OWNER, ""),
        tags=json.loads(properties.get(TAGS, "{}")), timestamp_key=time,
        primary_keys=stored_keys(table), online=stored_online(table),
    )  # fmt: skip


def _columns(table: "DeltaTable", comments: Mapping[str, str]) -> Iterable[ColumnInfo]:
    """The columns of the stored table that are not Penstock's own (`_known_at`)."""
    types = stored_types(table)
    for found in table.schema().fields:
        if found.name in types:
            comment = comments.get(found.name) or str(found.metadata.get("comment", ""))
            yield ColumnInfo(found.name, types[found.name], comment)


def _statistics(table: "DeltaTable", time: str | None) -> tuple[int | None, str | None]:
    """Rows and the greatest timestamp, from the log alone; None where it does not say."""
    import pyarrow as pa
    import pyarrow.compute as compute

    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return 0, None
    counts = actions["num_records"] if "num_records" in actions.column_names else None
    rows = compute.sum(counts).as_py() if counts is not None and counts.null_count == 0 else table.count()
    latest = compute.max(actions[f"max.{time}"]).as_py() if f"max.{time}" in actions.column_names else None
    if not isinstance(latest, datetime):
        return rows, None
    return rows, to_text(latest if latest.tzinfo else latest.replace(tzinfo=UTC))
