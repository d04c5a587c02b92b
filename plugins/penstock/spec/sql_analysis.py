"""What a query computes, without running it: its columns, their kinds of type, and what Spark would refuse.

sqlglot resolves each column against the declared columns of the inputs. Where it cannot tell (a pivot, a
function of tables), nothing is said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from penstock.spec.faults import shorten, suggestion
from penstock.spec.project import ColumnType
from penstock.spec.sql import DIALECT, SqlError, bind, line_of, parse_query

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

_CLOCKS = {"now", "current_timestamp", "current_date", "current_time", "localtimestamp", "curdate"}
_CHANCE = {"rand", "random", "randn", "uuid", "shuffle", "monotonically_increasing_id", "spark_partition_id"}
_BEFORE_NO_COMMA = {"COMMA", "FROM", "R_PAREN", "WHERE", "GROUP_BY", "ORDER_BY", "HAVING", "UNION", "SEMICOLON"}
_UNNAMED = "_col_"


class Kind(StrEnum):
    """Types as far as they can be told apart for certain."""

    TEXT = "text"
    TRUTH = "boolean"
    WHOLE = "whole number"
    REAL = "decimal number"
    TIME = "time"


KINDS = {
    ColumnType.STRING: Kind.TEXT, ColumnType.BOOLEAN: Kind.TRUTH, ColumnType.INT: Kind.WHOLE,
    ColumnType.BIGINT: Kind.WHOLE, ColumnType.FLOAT: Kind.REAL, ColumnType.DOUBLE: Kind.REAL,
    ColumnType.DATE: Kind.TIME, ColumnType.TIMESTAMP: Kind.TIME,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One fault of a query: its line within it (from 1), what is wrong, what to write instead."""

    line: int
    message: str
    remedy: str


@dataclass(frozen=True)
class Output:
    """One column of a query's result; `kind` and `exact` are None where they cannot be told for certain."""

    name: str
    line: int
    kind: Kind | None
    exact: ColumnType | None = None


@dataclass(frozen=True)
class Analysis:
    """A query's problems and the columns of its result (None where they cannot be told)."""

    problems: list[Problem] = field(default_factory=list)
    outputs: list[Output] | None = None


def fits(found: Kind, declared: ColumnType) -> bool:
    """Whether values of a kind can be kept in a column without losing what they say."""
    return found is KINDS[declared] or (found is Kind.WHOLE and KINDS[declared] is Kind.REAL)


def analyse(sql: str, tables: Mapping[str, Mapping[str, ColumnType]]) -> Analysis:
    """Analyses a query over declared inputs (name -> column -> type). Raises SqlError where it cannot be bound."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    problems = list(_careless(sql))
    views = {name: f"penstock_input_{number}" for number, name in enumerate(tables)}
    query = parse_query(bind(sql, views))  # keeps the lines
    schema = {views[name]: dict(columns) for name, columns in tables.items()}
    try:
        query = _resolve(query, schema)
    except SqlglotError as error:
        problems.append(Problem(1, f"cannot be resolved: {shorten(str(error))}", "correct it, or write it more simply"))
        return Analysis(problems)
    except (KeyError, AttributeError, TypeError, ValueError, IndexError):
        return Analysis(problems)  # beyond sqlglot: Spark will tell
    if query.find(exp.Pivot):
        return Analysis(problems)
    names = {view: name for name, view in views.items()}
    problems += dict.fromkeys(_unresolved(query, schema, names))
    return Analysis(problems, None if problems else _outputs(query, schema))


def _careless(sql: str) -> Iterator[Problem]:
    """What sqlglot lets pass and Spark refuses, and what makes the same query give another answer later."""
    from sqlglot.dialects.dialect import Dialect

    tokens = Dialect.get_or_raise(DIALECT).tokenize(sql)
    following = [*tokens[1:], None]
    for token, after in zip(tokens, following, strict=True):
        kind, name = token.token_type.name, token.text.lower()
        if kind == "COMMA" and (after is None or after.token_type.name in _BEFORE_NO_COMMA):
            yield Problem(token.line, "is no valid SQL: nothing follows a comma", "remove the comma")
        called = after is not None and after.token_type.name == "L_PAREN"
        if kind in ("CURRENT_TIMESTAMP", "CURRENT_DATE", "LOCALTIMESTAMP") or (called and name in _CLOCKS):
            yield Problem(
                token.line, f"asks the clock ({name}): the same as_of would give other values later",
                "use the inputs' own times: they end at as_of",
            )  # fmt: skip
        if called and name in _CHANCE:
            message = f"depends on chance ({name}): the same as_of would give other values again"
            yield Problem(token.line, message, "compute it from columns, such as xxhash64(key)")


def _resolve(query: "exp.Query", schema: dict[str, dict[str, ColumnType]]) -> "exp.Query":
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify

    plain: dict[str, object] = {
        view: {name: str(kind) for name, kind in columns.items()} for view, columns in schema.items()
    }
    query = qualify(
        query, dialect=DIALECT, schema=plain, validate_qualify_columns=False, allow_partial_qualification=True
    )
    return annotate_types(query, schema=plain, dialect=DIALECT)


def _unresolved(
    query: "exp.Query", schema: Mapping[str, Mapping[str, ColumnType]], names: Mapping[str, str]
) -> Iterator[Problem]:
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    aliases = {source.alias_or_name for source in query.find_all(exp.Table, exp.Subquery, exp.CTE, exp.Lateral)}
    lateral = query.find(exp.Lateral) is not None
    for scope in traverse_scope(query):
        for column in scope.columns:
            if column.table:
                yield from _unknown_qualified(column, scope, schema, names, aliases)
            elif not lateral or scope.is_root:
                yield from _unknown_plain(column, scope, schema)


def _unknown_qualified(
    column: "exp.Column", scope: "Scope", schema: Mapping[str, Mapping[str, ColumnType]],
    names: Mapping[str, str], aliases: set[str],
) -> Iterator[Problem]:  # fmt: skip
    source = scope.sources.get(column.table)
    if source is None:
        if column.table not in aliases:
            yield Problem(
                line_of(column), f"there is no table {column.table!r} for the column {column.table}.{column.name}",
                suggestion(column.table, aliases, "tables of the query"),
            )  # fmt: skip
        return
    known = _columns_of(source, schema)
    if known is not None and column.name not in known:
        table = names.get(getattr(source, "name", ""), column.table)
        message = f"{table} has no column {column.name!r}"
        yield Problem(line_of(column), message, suggestion(column.name, known, "columns"))


def _unknown_plain(
    column: "exp.Column", scope: "Scope", schema: Mapping[str, Mapping[str, ColumnType]]
) -> Iterator[Problem]:
    if column.name in getattr(scope.expression, "named_selects", []) and column.find_ancestor(*_after_select()):
        return
    known: dict[str, list[str]] = {}
    for alias, (_, source) in scope.selected_sources.items():
        columns = _columns_of(source, schema)
        if columns is None:
            return
        for name in columns:
            known.setdefault(name, []).append(alias)
    if column.name in known:
        both = [f"{alias}.{column.name}" for alias in known[column.name]]
        message = f"the column {column.name!r} is ambiguous: {' and '.join(known[column.name])} have one"
        yield Problem(line_of(column), message, f"write {' or '.join(both)}")
    else:
        message = f"no input has a column {column.name!r}"
        yield Problem(line_of(column), message, suggestion(column.name, known, "columns"))


def _after_select() -> "tuple[type[exp.Expression], ...]":
    from sqlglot import exp

    return (exp.Order, exp.Having, exp.Qualify, exp.Group)


def _columns_of(source: Any, schema: Mapping[str, Mapping[str, ColumnType]]) -> list[str] | None:
    """The columns of a table or a subquery; None where they cannot be told."""
    from sqlglot import exp

    if isinstance(source, exp.Table):
        return list(schema[source.name]) if source.name in schema else None
    names = list(getattr(source.expression, "named_selects", []))
    return None if not names or "*" in names or "" in names else names


def _outputs(query: "exp.Query", schema: Mapping[str, Mapping[str, ColumnType]]) -> list[Output] | None:
    from sqlglot import exp

    inputs = {table.alias_or_name: schema[table.name] for table in query.find_all(exp.Table) if table.name in schema}
    outputs = []
    for selected in query.selects:
        name = selected.alias_or_name
        if not name or name == "*":
            return None
        outputs.append(Output(name, line_of(selected), _kind(selected), _exact(selected.unalias(), inputs)))
    return outputs


def is_unnamed(output: Output) -> bool:
    """Whether a column of the result is an expression without AS."""
    return output.name.startswith(_UNNAMED)


def _kind(selected: "exp.Expression") -> Kind | None:
    from sqlglot import exp

    found = selected.type
    if found is None:
        return None
    types = exp.DataType
    for kind, members in (
        (Kind.TEXT, types.TEXT_TYPES), (Kind.WHOLE, types.INTEGER_TYPES), (Kind.REAL, types.REAL_TYPES),
        (Kind.TIME, types.TEMPORAL_TYPES), (Kind.TRUTH, {types.Type.BOOLEAN}),
    ):  # fmt: skip
        if found.this in members:
            return kind
    return None


def _exact(expression: "exp.Expression", inputs: Mapping[str, Mapping[str, ColumnType]]) -> ColumnType | None:
    """The type of a plain column of an input, or of a cast: the only ones that are beyond doubt."""
    from sqlglot import exp

    if isinstance(expression, exp.Column):
        return inputs.get(expression.table, {}).get(expression.name)
    if isinstance(expression, exp.Cast):
        written = expression.to.sql(dialect=DIALECT).lower()
        return ColumnType(written) if written in set(ColumnType) else None
    return None


def parse_expression(text: str) -> "exp.Expression":
    """A Spark SQL expression over one row. Raises SqlError for aggregates, windows, subqueries and statements."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = [part for part in sqlglot.parse(text, dialect=DIALECT) if part is not None]
    except SqlglotError as error:
        first = str(error).splitlines()[0].partition(" but got")[0]
        raise SqlError(f"{text!r} is no valid SQL: {first}", remedy="write one Spark SQL expression") from error
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Condition) or isinstance(parsed[0], exp.Query):
        remedy = "write one Spark SQL expression over the columns of a row"
        raise SqlError(f"{text!r} is no single expression", remedy=remedy)
    beyond_a_row = {exp.Query: "a subquery", exp.AggFunc: "an aggregate", exp.Window: "a window", exp.Star: "*"}
    for node, what in beyond_a_row.items():
        if parsed[0].find(node):
            raise SqlError(f"{text!r} holds {what}", remedy="write an expression over the columns of one row")
    return parsed[0]
