"""The SQL of feature tables: which tables it names, and binding them to views that end at as_of.

A query names its inputs as they are declared: `table`, `project.table`; `root:project.table` is written
`root.project.table` (or, like any of them, in backquotes). sqlglot finds the names; the query's own text
is left as it is, but for them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from penstock.errors import SpecError

if TYPE_CHECKING:
    from sqlglot import exp

DIALECT = "spark"
# They make rows of their arguments alone.
_TABLE_FUNCTIONS = {"range", "stack", "explode", "explode_outer", "posexplode", "posexplode_outer", "inline"}
_QUOTES = "'\"`"


class SqlError(SpecError):
    """A query that cannot be used; `line` is the line within it (from 1), `remedy` what to write instead."""

    def __init__(self, message: str, line: int = 1, remedy: str = "correct the query") -> None:
        super().__init__(f"line {line}: {message}; {remedy}")
        self.message = message
        self.line = line
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.line, self.remedy)


@dataclass(frozen=True)
class TableReference:
    """A table named in a query: the name as declared in `inputs`, its line and its place in the text."""

    name: str
    line: int
    start: int
    end: int
    alias: str | None


def parse_query(sql: str) -> "exp.Query":
    """The one SELECT of a text. Raises SqlError where it is none, or several, or no valid SQL."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ErrorLevel, ParseError, SqlglotError

    try:
        statements = [s for s in sqlglot.parse(sql, dialect=DIALECT, error_level=ErrorLevel.RAISE) if s is not None]
    except ParseError as error:
        first: dict[str, Any] = error.errors[0] if error.errors else {}
        what = str(first.get("description") or error).partition(" but got")[0].partition("<Token")[0]
        near = str(first.get("highlight") or "").strip()
        message = f"is no valid SQL: {what}" + (f", at {near!r}" if near else "")
        raise SqlError(message, int(first.get("line") or 1)) from error
    except SqlglotError as error:
        raise SqlError(f"is no valid SQL: {error}", _open_quote_line(sql), "close quotes and brackets") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        found = ", ".join(s.key.upper() for s in statements) or "nothing"
        raise SqlError(f"holds {found}, not one SELECT", 1, "write one SELECT over the declared inputs")
    return statements[0]


def table_references(sql: str) -> list[TableReference]:
    """The tables that a query reads, in the order of its text; names of its own WITH are none. Raises SqlError."""
    return _references(parse_query(sql))


def table_names(sql: str) -> set[str]:
    """The names of the tables that a query reads, in lower case. Raises SqlError."""
    return {reference.name for reference in table_references(sql)}


def declared_name(name: str, declared: Iterable[str]) -> str | None:
    """The declared input that a query's table name stands for: itself, or the only one that differs by its root."""
    by_name = {item.lower(): item for item in declared}
    if name in by_name:
        return by_name[name]
    rooted = [item for lower, item in by_name.items() if lower.partition(":")[2] == name]
    return rooted[0] if len(rooted) == 1 else None


def bind(sql: str, views: Mapping[str, str]) -> str:
    """The query reading `views` (declared input -> view) instead of its inputs, under their own names.

    Raises SqlError where it names a table that is not declared, or reads one at a version of its own.
    """
    query = parse_query(sql)
    _refuse_shadowed(query, views)
    bound: list[TableReference | _Qualifier] = [*_references(query), *_qualifiers(query)]
    pieces: list[str] = []
    position = 0
    for reference in sorted(bound, key=lambda item: item.start):
        if isinstance(reference, _Qualifier):
            replacement = quote(reference.table)
        else:
            declared = declared_name(reference.name, views)
            if declared is None:
                raise undeclared(reference, views)
            replacement = quote(views[declared])
            if reference.alias is not None:
                replacement += f" AS {quote(reference.alias)}"
        pieces += [sql[position : reference.start], replacement]
        position = reference.end
    return "".join([*pieces, sql[position:]])


def expression_columns(expression: str) -> list[str]:
    """The columns that an expression over one row names; empty where it cannot be read."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        found = sqlglot.parse_one(expression, dialect=DIALECT).find_all(exp.Column)
    except SqlglotError:
        return []
    return list(dict.fromkeys(column.name for column in found))


@cache
def plain_column(expression: str) -> str | None:
    """The column that an expression over one row is, by its name; None where it computes something."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        found = sqlglot.parse_one(expression, dialect=DIALECT)
    except SqlglotError:
        return None
    return found.name if isinstance(found, exp.Column) and not found.table else None


def columns_read(sql: str, columns: Iterable[str]) -> list[str]:
    """Those columns of an input that a query may read: whose names it says; all, where some can be meant unsaid."""
    from sqlglot import exp

    query = parse_query(sql)
    stars = (star for star in query.find_all(exp.Star) if not isinstance(star.parent, exp.Count))
    natural = (join for join in query.find_all(exp.Join) if join.method)
    if any(True for found in (stars, natural, query.find_all(exp.Pivot)) for _ in found):
        return list(columns)
    said = {identifier.name.lower() for identifier in query.find_all(exp.Identifier)}
    return [column for column in columns if column.lower() in said]


def undeclared(reference: TableReference, declared: Iterable[str]) -> SqlError:
    """The error of a query that names a table which its declaration does not."""
    from penstock.spec.faults import suggestion

    hint = suggestion(reference.name, declared, "inputs")
    return SqlError(
        f"reads {reference.name}, which is no declared input", reference.line,
        f"{hint}, or add {reference.name} to inputs",
    )  # fmt: skip


def quote(name: str) -> str:
    """A name in backquotes."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class _Qualifier:
    """`project.table` before a column: only `table` is known once the table is bound."""

    table: str
    start: int
    end: int


def _references(query: "exp.Query") -> list[TableReference]:
    from sqlglot import exp

    found = [_reference(table) for table in query.find_all(exp.Table) if _is_read(table)]
    return sorted(found, key=lambda reference: reference.start)


def _qualifiers(query: "exp.Query") -> Iterator[_Qualifier]:
    from sqlglot import exp

    for column in query.find_all(exp.Column):
        table, outer = column.args.get("table"), column.args.get("catalog") or column.args.get("db")
        if table is not None and outer is not None:
            yield _Qualifier(table.name, outer.meta["start"], table.meta["end"] + 1)


def _refuse_shadowed(query: "exp.Query", views: Mapping[str, str]) -> None:
    from sqlglot import exp

    taken = {view.lower() for view in views.values()}
    for cte in query.find_all(exp.CTE):
        if cte.alias.lower() in taken:
            raise SqlError(f"names a WITH {cte.alias}, which is the name of a view", line_of(cte), "rename it")


def _reference(table: "exp.Table") -> TableReference:
    from sqlglot import exp

    parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
    line = line_of(table)
    if len(parts) != len(table.parts) or not 1 <= len(parts) <= 3:
        raise SqlError(f"reads {table.sql(dialect=DIALECT)}, which is no table", line, "read declared inputs only")
    for clause in ("version", "when", "sample"):
        if table.args.get(clause) is not None:
            raise SqlError(
                f"chooses rows or a version of {table.name} by itself", line,
                "remove the clause: inputs are read at the version and up to the as_of of the run",
            )  # fmt: skip
    names = [part.name.lower() for part in parts]
    name = ":".join([names[0], ".".join(names[1:])]) if len(names) == 3 else ".".join(names)
    alias = None if table.alias else parts[-1].name.rpartition(".")[2]
    return TableReference(name, line, parts[0].meta["start"], parts[-1].meta["end"] + 1, alias)


def _is_read(table: "exp.Table") -> bool:
    """Whether a table node is a table to bind: no name of a WITH that is visible there, no table function."""
    from sqlglot import exp

    if isinstance(table.this, exp.Func):
        name = table.this.name if isinstance(table.this, exp.Anonymous) else table.this.key
        if name.lower() in _TABLE_FUNCTIONS:
            return False
        raise SqlError(f"reads {name}(…), which is no declared input", line_of(table), "read declared inputs only")
    return bool(table.db) or table.name.lower() not in _visible_names(table)


def _visible_names(table: "exp.Expression") -> set[str]:
    from sqlglot import exp

    names: set[str] = set()
    inside: exp.CTE | None = None
    node: Any = table
    while node is not None:
        with_ = node if isinstance(node, exp.With) else node.args.get("with_")
        if isinstance(node, exp.CTE):
            inside = node
        elif isinstance(node, exp.With) and inside is not None:
            for cte in node.expressions:
                if cte is inside and not node.args.get("recursive"):
                    break
                names.add(cte.alias.lower())
            # its query is the next ancestor: the names of this WITH are settled
            node = node.parent
            inside = None
            node = node.parent if node is not None else None
            continue
        elif with_ is not None:
            names.update(cte.alias.lower() for cte in with_.expressions)
        node = node.parent
    return names


def line_of(node: "exp.Expression") -> int:
    """The line (from 1) on which a part of a query begins, as far as sqlglot noted it."""
    return min((int(part.meta["line"]) for part in node.walk() if "line" in part.meta), default=1)


def _open_quote_line(sql: str) -> int:
    """The line of the quote or comment that is never closed; the last one where all are."""
    position, last = 0, len(sql)
    while position < last:
        two, one = sql[position : position + 2], sql[position]
        closing = {"--": "\n", "/*": "*/"}.get(two) or (one if one in _QUOTES else None)
        if closing is None:
            position += 1
            continue
        start = position
        position += len(two) if two in ("--", "/*") else 1
        while position < last and not sql.startswith(closing, position):
            position += 2 if sql[position] == "\\" and one in _QUOTES else 1
        if position >= last and two != "--":
            return sql.count("\n", 0, start) + 1
        position += len(closing)
    return sql.rstrip().count("\n") + 1
