"""Builds the graph of an environment: declarations, commit records of the tables, and MLflow's registry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError
from penstock.features.column_sources import table_columns
from penstock.features.known import history_name
from penstock.features.table_info import declaration
from penstock.lakehouse.addresses import Address, full_name
from penstock.lakehouse.records import CommitRecord, latest_record
from penstock.lakehouse.system_tables import SYSTEM_TABLES
from penstock.lakehouse.table_properties import EVENT_TIME
from penstock.lineage.graph import Edge, Graph, Node, NodeKind
from penstock.lineage.models import Registry, VersionLineage, registered_versions
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable, Model
from penstock.training.feature_spec import spec_values
from penstock.training.used_columns import used_columns
from penstock.workspace import Workspace

_HISTORY_COMMITS = 1000


@dataclass(frozen=True)
class _OwnTable:
    """A table that somebody wrote from others: `inputs` by `project.table`, with the version that was read."""

    table: str
    columns: tuple[str, ...]
    inputs: dict[str, int]


class _Builder:
    """Collects nodes and edges; what is named but not there becomes a node that says so."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.own_tables: list[_OwnTable] = []

    def node(self, identifier: str, kind: NodeKind, version: int | None = None, note: str = "") -> None:
        """Adds a node, unless it is there."""
        self.nodes.setdefault(identifier, Node(identifier, kind, version, note))

    def edge(self, source: str, target: str, how: str, version: int | None = None) -> None:
        """Adds an edge between nodes."""
        self.edges[Edge(source, target, how, version)] = None

    def column(self, table: str, name: str) -> str:
        """The id of a column's node."""
        identifier = f"{table}.{name}"
        self.node(identifier, NodeKind.COLUMN)
        return identifier

    def graph(self, notes: Sequence[str]) -> Graph:
        """What was collected."""
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in self.nodes:
                    there = end.count(".") == 1 and self.workspace.addresses.find(end) is not None
                    self.node(end, NodeKind.TABLE, note="" if there else "not there")
        return Graph(tuple(self.nodes.values()), tuple(self.edges), None, tuple(notes))


def build_graph(workspace: Workspace, *, registry: Registry | None = None) -> Graph:
    """The lineage of every project of the environment. What cannot be read is named in the graph's notes."""
    builder, notes, loaded = _Builder(workspace), [], []
    names = [*workspace.project_names, *(project.name for project in workspace.inline)]
    for name in dict.fromkeys(names):
        try:
            loaded.append(workspace.project(name))
        except PenstockError as error:
            notes.append(f"project {name} is broken and left out: {str(error).splitlines()[0]}")
    for project in loaded:
        _add_tables(builder, project)
    for project in loaded:
        _add_declarations(builder, project)
    for own in builder.own_tables:
        _add_unknown_columns(builder, own.inputs, own.table, own.columns, "made from")
    found = registry or registered_versions(workspace, [project.name for project in loaded])
    for version in found.versions:
        _add_version(builder, version)
    return builder.graph([*notes, *found.problems])


def lineage_of(workspace: Workspace, name: str, project: str | None = None) -> Graph:
    """The lineage around a table, column (`project.table.column`) or version (`project.model/3`), both ways.

    Raises TableError, with the closest names, for what is not known.
    """
    parts = name.split(".")
    identifier = name if len(parts) > 1 or project is None else f"{project}.{name}"
    graph = build_graph(workspace)
    known = {node.id for node in graph.nodes}
    if identifier not in known:
        candidates = (f"{project}.{name}", f"model:{identifier}")
        identifier = next((candidate for candidate in candidates if candidate in known), identifier)
    return graph.around(graph.node(identifier).id)


def _add_tables(builder: _Builder, project: LoadedProject) -> None:
    """Nodes of declared and of existing tables, and edges from the commit records of those that exist."""
    workspace, spec = builder.workspace, project.spec
    existing = workspace.addresses.tables(project.name)
    for name in dict.fromkeys([*spec.sources, *spec.feature_tables, *existing]):
        is_old_versions = name.endswith(history_name("")) and name not in {**spec.sources, **spec.feature_tables}
        if name.startswith("_") or is_old_versions or name in set(SYSTEM_TABLES):
            continue
        _add_table(builder, project, name, existing.get(name))


def _add_table(builder: _Builder, project: LoadedProject, name: str, path: str | None) -> None:
    from deltalake import DeltaTable

    table = f"{project.name}.{name}"
    kind = _kind(project, name)
    declared = declaration(builder.workspace, Address(project.name, name))
    if path is None:
        builder.node(table, kind, note="not filled yet")
        columns = list(declared.columns) if declared else []
    else:
        stored = DeltaTable(path)
        if kind is NodeKind.TABLE and EVENT_TIME in stored.metadata().configuration:
            kind = NodeKind.FEATURES
        builder.node(table, kind, stored.version())
        columns = [field.name for field in stored.schema().fields]
        if kind is NodeKind.PREDICTIONS:
            _add_predictions(builder, project, name, stored)
        elif not isinstance(declared, FeatureTable):
            inputs = _add_record(builder, project, table, latest_record(stored))
            if kind is NodeKind.FEATURES:
                builder.own_tables.append(_OwnTable(table, tuple(columns), inputs))
    for column in columns:
        if not column.startswith("_"):
            builder.column(table, column)


def _kind(project: LoadedProject, name: str) -> NodeKind:
    spec = project.spec
    if name in spec.sources:
        return NodeKind.SOURCE
    if name.removesuffix("_rebuilt").endswith("_training_set"):
        return NodeKind.TRAINING_SET
    if name in {f"{model}_predictions" for model in spec.models}:
        return NodeKind.PREDICTIONS
    return NodeKind.FEATURES if name in spec.feature_tables else NodeKind.TABLE


def _add_record(builder: _Builder, project: LoadedProject, table: str, record: CommitRecord | None) -> dict[str, int]:
    inputs = {full_name(name, project.name): version for name, version in (record.inputs if record else {}).items()}
    for name, version in inputs.items():
        builder.edge(name, table, "made from", version)
    return inputs


def _add_predictions(builder: _Builder, project: LoadedProject, name: str, stored: Any) -> None:
    """Edges from every model version that wrote predictions, and from the tables that the newest score read."""
    model = f"{project.name}.{name.removesuffix('_predictions')}"
    newest: CommitRecord | None = None
    for commit in stored.history(_HISTORY_COMMITS):
        record = CommitRecord.from_json(commit.get("userMetadata"))
        if record is not None and model in record.inputs:
            newest = newest or record
            version = f"{model}/{record.inputs[model]}"
            builder.node(version, NodeKind.VERSION, note="not in the registry")
            builder.edge(version, f"{project.name}.{name}", "predicted")
    for table, number in (newest.inputs if newest else {}).items():
        if table != model:
            builder.edge(full_name(table, project.name), f"{project.name}.{name}", "features of", number)


def _add_declarations(builder: _Builder, project: LoadedProject) -> None:
    for name, table in project.spec.feature_tables.items():
        _add_feature_table(builder, project, name, table)
    for name, model in project.spec.models.items():
        _add_model(builder, project, name, model)


def _add_feature_table(builder: _Builder, project: LoadedProject, name: str, spec: FeatureTable) -> None:
    target = f"{project.name}.{name}"
    path = builder.workspace.addresses.find(Address(project.name, name))
    record = latest_record(path) if path else None
    how = spec.sql or str(spec.function)
    versions = {full_name(key, project.name): number for key, number in (record.inputs if record else {}).items()}
    inputs = {item: full_name(item, project.name) for item in spec.inputs}
    for table in inputs.values():
        builder.edge(table, target, how, versions.get(table))
    found = table_columns(builder.workspace, project, spec)
    if found is None:
        _add_unknown_columns(builder, inputs.values(), target, list(spec.columns), how)
        return
    for column, sources in found.values.items():
        if not sources:  # such as count(*): it depends on the rows as a whole
            for table in inputs.values():
                builder.edge(table, builder.column(target, column), how)
        for item, source in sources:
            builder.edge(builder.column(inputs[item], source), builder.column(target, column), how)
    for item, source in found.shaping:
        builder.edge(builder.column(inputs[item], source), target, f"{how} (filter, join or group)")


def _add_unknown_columns(
    builder: _Builder, inputs: Iterable[str], target: str, columns: Sequence[str], how: str
) -> None:
    """A function's columns: each may depend on everything in its inputs."""
    for table in inputs:
        for column in columns:
            if not column.startswith("_"):
                builder.edge(table, builder.column(target, column), how)
        prefix = f"{table}."
        known = [node for node in builder.nodes.values() if node.kind is NodeKind.COLUMN and node.id.startswith(prefix)]
        for node in known:
            builder.edge(node.id, target, how)


def _add_model(builder: _Builder, project: LoadedProject, name: str, model: Model) -> None:
    node = f"model:{project.name}.{name}"
    builder.node(node, NodeKind.MODEL, note=model.owner or project.spec.owner)
    training_set = f"{project.name}.{name}_training_set"
    spec = {
        "entity": spec_values(model.entity), "label": spec_values(model.label),
        "lookups": [spec_values(lookup) for lookup in model.lookups],
        "on_demand": {item: spec_values(feature) for item, feature in model.on_demand.items()},
    }  # fmt: skip
    columns = used_columns(spec, project.name)
    for table in dict.fromkeys(used.table for used in columns):
        builder.edge(table, node, "read by")
    for used in columns:
        column = builder.column(used.table, used.column)
        builder.edge(column, node, used.how)
        if training_set in builder.nodes:
            builder.edge(column, training_set, "joined into")


def _add_version(builder: _Builder, version: VersionLineage) -> None:
    builder.nodes[version.id] = Node(version.id, NodeKind.VERSION, note=", ".join(version.aliases))
    if version.training_set:
        table, _, number = version.training_set.partition("@")
        builder.edge(table, version.id, "trained on", int(number) if number.isdecimal() else None)
    for table, read in version.inputs.items():
        builder.edge(table, version.id, "trained from", read)
    for used in version.columns:
        builder.edge(builder.column(used.table, used.column), version.id, used.how)
