"""Sources and feature tables: names, keys, times, inputs, grain. Reads nothing but the declaration."""

from collections.abc import Iterator

from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, YamlPath, suggestion
from penstock.spec.graph import find_cycles
from penstock.spec.names import HISTORY_SUFFIX, SYSTEM_TABLES, model_tables
from penstock.spec.project import ColumnType, FeatureTable, Grain, Source
from penstock.spec.references import parse_table_name

_INEXACT = (ColumnType.FLOAT, ColumnType.DOUBLE)


def check_tables(scope: Scope) -> Iterator[Fault]:
    """The faults of the project's tables."""
    yield from _names(scope)
    for path, _, table in scope.tables:
        yield from _keys(scope, path, table)
        yield from scope.unknown_columns((*path, "cluster_by"), table.cluster_by, table, str(path[1]))
    for name, source in scope.project.sources.items():
        yield from _available_at(scope, ("sources", name, "available_at"), source)
    for name, table in scope.project.feature_tables.items():
        path = ("feature_tables", name)
        yield from _transformation(scope, path, table)
        yield from _event_time(scope, path, table)
        yield from _inputs(scope, path, table)
        if table.grain is not None:
            yield from _grain(scope, (*path, "grain"), table, table.grain)
    yield from _cycles(scope)


def _names(scope: Scope) -> Iterator[Fault]:
    project = scope.project
    if project.name != scope.folder.name and "name" in scope.document.data:
        yield scope.fault(
            ("name",),
            f"the project is named {project.name!r}, but its folder {scope.folder.name!r}",
            f"write `name: {scope.folder.name}`, or rename the folder",
        )
    taken = {table: f"Penstock's own table {table}" for table in SYSTEM_TABLES}
    for model in project.models:
        taken |= {table: f"the table {table} of the model {model}" for table in model_tables(model)}
    for path, name, _ in scope.tables:
        if name in taken:
            yield scope.fault(path, f"{name!r} is the name of {taken[name]}", "choose another name")
        elif name.endswith(HISTORY_SUFFIX):
            yield scope.fault(
                path,
                f"{name!r} ends in {HISTORY_SUFFIX}: such tables keep the old row versions of feature tables",
                f"choose another name, such as {name.removesuffix(HISTORY_SUFFIX)}_past",
            )
        if path[0] == "feature_tables" and name in project.sources:
            line = scope.document.line(("sources", name))
            yield scope.fault(
                path, f"{name!r} is also a source (line {line}): tables share one name space", "rename one"
            )


def _keys(scope: Scope, path: YamlPath, table: Source | FeatureTable) -> Iterator[Fault]:
    path, where = (*path, "primary_keys"), str(path[1])
    yield from scope.repeated(path, table.primary_keys)
    yield from scope.unknown_columns(path, table.primary_keys, table, where)
    for index, key in enumerate(table.primary_keys):
        if key in table.columns and table.columns[key].type in _INEXACT:
            yield scope.fault(
                (*path, index),
                f"the key {key!r} is a {table.columns[key].type}, which has no exact equality",
                "declare it as bigint or string, or choose another key",
            )


def _available_at(scope: Scope, path: YamlPath, source: Source) -> Iterator[Fault]:
    if source.available_at not in source.columns:
        yield scope.unknown_column(path, source.available_at, source.columns, str(path[1]))
    yield from scope.not_a_timestamp(path, source.available_at, source)


def _transformation(scope: Scope, path: YamlPath, table: FeatureTable) -> Iterator[Fault]:
    if (table.sql is None) == (table.function is None):
        found = "neither sql nor function" if table.sql is None else "both sql and function"
        yield scope.fault(path, f"has {found}", "give exactly one: sql: features/….sql, or function: module.function")


def _event_time(scope: Scope, path: YamlPath, table: FeatureTable) -> Iterator[Fault]:
    place, name = (*path, "event_time"), str(path[1])
    if table.event_time not in table.columns:
        hint = suggestion(table.event_time, _timestamps(table), "timestamp columns")
        yield scope.fault(
            place,
            f"{name} has no column {table.event_time!r}, the moment from which a row may be used",
            f"add `{table.event_time}: timestamp` to its columns, or name another by event_time ({hint})",
        )
    yield from scope.not_a_timestamp(place, table.event_time, table)
    if table.event_time in table.primary_keys:
        yield scope.fault(
            (*path, "primary_keys", table.primary_keys.index(table.event_time)),
            f"{table.event_time!r} is the event time, which identifies a row beside the keys anyway",
            "remove it from primary_keys",
        )


def _timestamps(table: FeatureTable) -> list[str]:
    return [name for name, column in table.columns.items() if column.type is ColumnType.TIMESTAMP]


def _inputs(scope: Scope, path: YamlPath, table: FeatureTable) -> Iterator[Fault]:
    path = (*path, "inputs")
    yield from scope.repeated(path, table.inputs)
    for index, address in enumerate(table.inputs):
        problem = scope.find(address).problem
        if problem is not None:
            yield scope.fault((*path, index), *problem)


def _cycles(scope: Scope) -> Iterator[Fault]:
    for cycle in find_cycles({name: _own_inputs(scope, table) for name, table in scope.project.feature_tables.items()}):
        yield scope.fault(
            ("feature_tables", cycle[0], "inputs"),
            f"the feature tables read each other in a circle: {' -> '.join(cycle)}",
            "remove one of these inputs, or move what both need to a table of its own",
        )


def _own_inputs(scope: Scope, table: FeatureTable) -> list[str]:
    names = [parse_table_name(address, scope.project.name) for address in table.inputs]
    return [
        name.table
        for name in names
        if name is not None and name.root is None and name.project == scope.project.name
        and name.table in scope.project.feature_tables
    ]  # fmt: skip


def _grain(scope: Scope, path: YamlPath, table: FeatureTable, grain: Grain) -> Iterator[Fault]:
    columns = (*path, "columns")
    yield from scope.repeated(columns, grain.columns)
    for index, column in enumerate(grain.columns):
        if column not in table.key_columns:
            yield scope.fault(
                (*columns, index),
                f"{column!r} is neither a primary key nor the event time",
                suggestion(column, table.key_columns, "key columns"),
            )
    if table.event_time in table.columns and table.event_time not in grain.columns:
        yield scope.fault(
            columns,
            f"the grain lacks the event time {table.event_time!r}: rows that become usable later would be missed",
            f"add {table.event_time} to columns, or remove the grain to compute the whole table each time",
        )
    if not grain.inputs:
        yield scope.fault((*path, "inputs"), "no input maps to the grain", "map an input, or remove the grain")
    for name in grain.inputs:
        yield from _grain_input(scope, (*path, "inputs", name), table, grain, name)


def _grain_input(scope: Scope, path: YamlPath, table: FeatureTable, grain: Grain, name: str) -> Iterator[Fault]:
    if name not in table.inputs:
        yield scope.fault(path, f"{name!r} is no input of the table", suggestion(name, table.inputs, "inputs"))
        return
    mapping = grain.inputs[name]
    for column in mapping.expressions:
        if column not in grain.columns:
            hint = suggestion(column, grain.columns, "columns of the grain")
            yield scope.fault((*path, "expressions", column), f"{column!r} is no column of the grain", hint)
    for column in grain.columns:
        if column not in mapping.expressions:
            yield scope.fault(
                (*path, "expressions"),
                f"has no expression for the grain's column {column!r}",
                f"add `{column}: <expression over {name}>`",
            )
    if mapping.join is None:
        return
    if mapping.join.input not in table.inputs or mapping.join.input == name:
        others = [item for item in table.inputs if item != name]
        hint = suggestion(mapping.join.input, others, "other inputs")
        yield scope.fault((*path, "join", "input"), f"{mapping.join.input!r} is no other input of the table", hint)
        return
    for side in (name, mapping.join.input):
        found = scope.find(side).table
        if found is not None:
            yield from scope.unknown_columns((*path, "join", "using"), mapping.join.using, found, side)
