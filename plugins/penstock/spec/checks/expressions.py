"""The expressions of a project file: labels, keys of lookups, grains."""

from collections.abc import Iterator, Mapping

from penstock.spec.checks.queries import input_columns
from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, YamlPath
from penstock.spec.project import ColumnType, FeatureTable, Grain, GrainInput, Model, Source
from penstock.spec.sql import SqlError, quote
from penstock.spec.sql_analysis import Kind, analyse, fits, parse_expression

_Tables = Mapping[str, Mapping[str, ColumnType]]
_ROW = "penstock_row"


def check_expressions(scope: Scope) -> Iterator[Fault]:
    """The faults of every expression."""
    for name, table in scope.project.feature_tables.items():
        if table.grain is not None:
            for read, mapping in table.grain.inputs.items():
                place = ("feature_tables", name, "grain", "inputs", read)
                yield from _grain(scope, place, table, table.grain, mapping)
    for path, _, model in scope.models:
        yield from _label(scope, (*path, "label", "expression"), model)
        yield from _lookups(scope, (*path, "lookups"), model)


def _grain(scope: Scope, path: YamlPath, table: FeatureTable, grain: Grain, mapping: GrainInput) -> Iterator[Fault]:
    name = str(path[-1])
    read = [name] if mapping.join is None else [name, mapping.join.input]
    columns = input_columns(scope, read)
    if columns is None or not set(read) <= set(table.inputs):
        return
    source = quote(name)
    if mapping.join is not None:
        using = ", ".join(quote(column) for column in mapping.join.using)
        source += f" JOIN {quote(mapping.join.input)} USING ({using})"
        if not all(set(mapping.join.using) <= set(columns[side]) for side in read):
            return  # a fault of its own
    for column, text in mapping.expressions.items():
        if column in grain.columns and column in table.columns:
            place = (*path, "expressions", column)
            yield from _expression(scope, place, text, source, columns, table.columns[column].type)


def _label(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    columns = input_columns(scope, [model.label.table])
    if columns is not None and isinstance(scope.find(model.label.table).table, Source):
        row = {_ROW: columns[model.label.table]}
        yield from _expression(scope, path, model.label.expression, _ROW, row, ColumnType.DOUBLE, Kind.TRUTH)


def _lookups(scope: Scope, path: YamlPath, model: Model) -> Iterator[Fault]:
    columns = input_columns(scope, [model.entity.table])
    if columns is None:
        return
    row = {_ROW: columns[model.entity.table]}
    for index, lookup in enumerate(model.lookups):
        table = scope.find(lookup.table).table
        for key, text in lookup.keys.items():
            if table is not None and key in table.columns:
                place = (*path, index, "keys", key)
                yield from _expression(scope, place, text, _ROW, row, table.columns[key].type)


def _expression(
    scope: Scope, path: YamlPath, text: str, source: str, tables: _Tables, wanted: ColumnType, also: Kind | None = None
) -> Iterator[Fault]:
    """The faults of an expression over a row of `source` that is to give a value of the wanted type."""
    try:
        parse_expression(text)
        analysis = analyse(f"SELECT (\n{text}\n) AS value FROM {source}", tables)
    except SqlError as error:
        yield scope.fault(path, error.message, error.remedy)
        return
    for problem in analysis.problems:
        yield scope.fault(path, problem.message.replace(_ROW, "the row"), problem.remedy)
    kind = analysis.outputs[0].kind if analysis.outputs else None
    if kind is not None and kind is not also and not fits(kind, wanted):
        kinds = f"a {wanted}" + (f" or {also}" if also else "")
        yield scope.fault(path, f"{text!r} gives a {kind}, where {kinds} is needed", f"write CAST({text} AS {wanted})")
