"""Which input columns a column of a query comes from, by sqlglot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.sql import DIALECT, SqlError, bind, parse_query

if TYPE_CHECKING:
    from sqlglot import exp

InputColumn = tuple[str, str]


@dataclass(frozen=True)
class QueryColumns:
    """values: for each output column, the (input, column) pairs that its value is computed from.

    shaping: the pairs that only filter, join or group, and so touch every output column.
    """

    values: Mapping[str, tuple[InputColumn, ...]]
    shaping: tuple[InputColumn, ...]


def query_columns(
    sql: str, inputs: Mapping[str, Mapping[str, str]], outputs: Sequence[str]
) -> QueryColumns | None:  # fmt: skip
    """The columns behind each output of a query; None where sqlglot cannot tell. inputs: name -> column -> type."""
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    views = {name: f"penstock_input_{number}" for number, name in enumerate(inputs)}
    names = {view: name for name, view in views.items()}
    schema = {views[name]: dict(columns) for name, columns in inputs.items()}
    try:
        bound = bind(sql, views)
        values = {}
        for output in outputs:
            root = lineage(output, bound, schema=schema, dialect=DIALECT)
            values[output] = tuple(sorted({
                (names[node.source.name], node.name.rpartition(".")[2].strip('`"'))
                for node in root.walk() if _is_input(node.source, names)
            }))  # fmt: skip
        used = _used(bound, schema, names)
    except (SqlError, SqlglotError, KeyError, AttributeError, TypeError, ValueError, IndexError):
        return None  # beyond sqlglot: the table is the finest that can be said
    told = {pair for pairs in values.values() for pair in pairs}
    if any(column not in inputs[name] for name, column in (*told, *used)):
        return None
    return QueryColumns(values, tuple(pair for pair in used if pair not in told))


def _is_input(source: "exp.Expression", names: Mapping[str, str]) -> bool:
    from sqlglot import exp

    return isinstance(source, exp.Table) and source.name in names


def _used(sql: str, schema: dict[str, dict[str, str]], names: Mapping[str, str]) -> list[InputColumn]:
    """Every input column that occurs anywhere in the query."""
    from sqlglot import exp
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope

    query = qualify(parse_query(sql), schema=schema, dialect=DIALECT, validate_qualify_columns=False)
    found: dict[InputColumn, None] = {}
    for scope in traverse_scope(query):
        for column in scope.columns:
            source = scope.sources.get(column.table)
            if isinstance(source, exp.Table) and source.name in names:
                found[(names[source.name], column.name)] = None
    return sorted(found)
