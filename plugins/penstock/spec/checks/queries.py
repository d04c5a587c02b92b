"""The SQL files of feature tables: found, one SELECT, declared inputs, known columns, the declared output."""

from collections.abc import Generator, Iterator
from pathlib import Path

from penstock.spec.checks.scope import Scope
from penstock.spec.faults import Fault, Severity, YamlPath, path_text, suggestion
from penstock.spec.project import ColumnType, FeatureTable
from penstock.spec.sql import SqlError, declared_name, table_references, undeclared
from penstock.spec.sql_analysis import KINDS, Analysis, Kind, Output, analyse, fits, is_unnamed


def check_queries(scope: Scope) -> Iterator[Fault]:
    """The faults of every feature table's SQL."""
    for name, table in scope.project.feature_tables.items():
        if table.sql is None or table.function is not None:
            continue
        path = ("feature_tables", name)
        file = yield from project_file(scope, (*path, "sql"), table.sql)
        if file is not None:
            yield from _query(scope, path, table, file)


def project_file(scope: Scope, path: YamlPath, relative: str) -> Generator[Fault, None, Path | None]:
    """Yields a fault where a file of the project is not there; returns its path otherwise."""
    file = scope.folder / relative
    if not file.resolve().is_relative_to(scope.folder.resolve()):
        yield scope.fault(path, f"{relative} lies outside the project's folder", f"move it into {scope.folder.name}/")
        return None
    if file.is_file():
        return file
    there = [
        item.relative_to(scope.folder).as_posix() for item in scope.folder.rglob(f"*{Path(relative).suffix or '.*'}")
    ]
    hint = suggestion(relative, there, "files")
    yield scope.fault(path, f"there is no file {relative} in {scope.folder.name}/", f"{hint}, or create it")
    return None


def _query(scope: Scope, path: YamlPath, table: FeatureTable, file: Path) -> Iterator[Fault]:
    place = path_text(path)

    def fault(line: int, message: str, remedy: str) -> Fault:
        return Fault(str(file), line, place, message, remedy)

    try:
        sql = file.read_text(encoding="utf-8")
        references = table_references(sql)
    except UnicodeDecodeError:
        yield fault(1, "is not UTF-8", "save it as UTF-8")
        return
    except SqlError as error:
        yield fault(error.line, error.message, error.remedy)
        return
    strangers = [
        undeclared(item, table.inputs) for item in references if declared_name(item.name, table.inputs) is None
    ]
    for stranger in strangers:
        yield fault(stranger.line, stranger.message, stranger.remedy)
    read = {declared_name(reference.name, table.inputs) for reference in references}
    for index, address in enumerate(table.inputs):
        if address not in read:
            message = f"{table.sql} does not read the input {address!r}"
            remedy = "remove it, so that the table is not computed again whenever it changes"
            yield scope.fault((*path, "inputs", index), message, remedy, Severity.WARNING)
    inputs = input_columns(scope, table.inputs)
    if strangers or inputs is None:
        return
    try:
        analysis = analyse(sql, inputs)
    except SqlError as error:
        yield fault(error.line, error.message, error.remedy)
        return
    for problem in analysis.problems:
        yield fault(problem.line, problem.message, problem.remedy)
    yield from _outputs(scope, path, table, file, analysis)


def input_columns(scope: Scope, addresses: list[str]) -> dict[str, dict[str, ColumnType]] | None:
    """The columns of inputs by their addresses; None where one of them is not known here."""
    found = {address: scope.find(address).table for address in addresses}
    columns = {
        address: {name: column.type for name, column in table.columns.items()}
        for address, table in found.items()
        if table is not None
    }
    return columns if len(columns) == len(addresses) else None


def _outputs(scope: Scope, path: YamlPath, table: FeatureTable, file: Path, analysis: Analysis) -> Iterator[Fault]:
    if analysis.outputs is None:
        return
    place = path_text(path)
    seen: set[str] = set()
    for output in analysis.outputs:
        if is_unnamed(output):
            yield Fault(str(file), output.line, place, "selects an expression without a name", "add AS and a name")
        elif output.name in seen:
            message = f"selects two columns named {output.name!r}"
            yield Fault(str(file), output.line, place, message, "rename one with AS")
        elif output.name not in table.columns:
            message = f"selects {output.name!r}, which the table does not declare"
            hint = suggestion(output.name, [name for name in table.columns if name not in seen], "declared columns")
            remedy = f"{hint}, or declare `{output.name}: {_likely(output)}` in columns"
            yield Fault(str(file), output.line, place, message, remedy)
        else:
            yield from _type(file, place, output, table.columns[output.name].type)
        seen.add(output.name)
    for name in table.columns:
        if name not in seen:
            message = f"{table.sql} does not select the declared column {name!r}"
            hint = suggestion(name, seen - set(table.columns), "undeclared ones that it selects")
            yield scope.fault((*path, "columns", name), message, f"select it, or remove it from columns ({hint})")


def _type(file: Path, place: str, output: Output, declared: ColumnType) -> Iterator[Fault]:
    if output.kind is None:
        return
    times = {ColumnType.DATE, ColumnType.TIMESTAMP}
    other_time = {output.exact, declared} == times
    if not fits(output.kind, declared) or other_time:
        found = output.exact or f"a {output.kind}"
        message = f"computes {output.name} as {found}, but the table declares {declared}"
        remedy = f"declare {output.name} as {_likely(output)}, or write CAST(… AS {declared})"
        yield Fault(str(file), output.line, place, message, remedy)


def _likely(output: Output) -> str:
    usual = {Kind.WHOLE: ColumnType.BIGINT, Kind.REAL: ColumnType.DOUBLE, Kind.TIME: ColumnType.TIMESTAMP}
    if output.exact is not None:
        return str(output.exact)
    if output.kind is None:
        return "<type>"
    return str(usual.get(output.kind) or next(known for known, kind in KINDS.items() if kind is output.kind))
