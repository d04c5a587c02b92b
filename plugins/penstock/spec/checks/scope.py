"""What a check looks at: one project, its file, and the projects beside it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.spec.documents import Document
from penstock.spec.faults import Fault, Severity, YamlPath, suggestion
from penstock.spec.project import ColumnType, FeatureTable, Model, Project, Source
from penstock.spec.references import parse_table_name

if TYPE_CHECKING:
    from penstock.spec.loading import ReadProject

Table = Source | FeatureTable
Words = tuple[str, str]  # what is wrong, what to write instead


@dataclass(frozen=True)
class Found:
    """What an address leads to: a table; or what is wrong; or neither, where that cannot be known here."""

    table: Table | None = None
    problem: Words | None = None


@dataclass(frozen=True)
class Scope:
    """One project's declaration with its file.

    `others` are all projects by name and `roots` the names of read-only roots; None where nobody looked.
    """

    project: Project
    document: Document
    broken: frozenset[str] = frozenset()
    others: "Mapping[str, ReadProject] | None" = None
    roots: frozenset[str] | None = None

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.document.file.parent

    def fault(self, path: YamlPath, message: str, remedy: str, severity: Severity = Severity.ERROR) -> Fault:
        """A fault at a place of the project's file."""
        return self.document.fault(path, message, remedy, severity)

    @property
    def models(self) -> Iterator[tuple[YamlPath, str, Model]]:
        """Each model with its place in the file and its name."""
        for name, model in self.project.models.items():
            yield ("models", name), name, model

    @property
    def tables(self) -> Iterator[tuple[YamlPath, str, Table]]:
        """Each source and feature table with its place in the file and its name."""
        for name, source in self.project.sources.items():
            yield ("sources", name), name, source
        for name, table in self.project.feature_tables.items():
            yield ("feature_tables", name), name, table

    def find(self, address: str) -> Found:
        """The table at `table`, `project.table` or `root:project.table`."""
        name = parse_table_name(address, self.project.name)
        if name is None:
            return Found(problem=(f"{address!r} is no table", "write table, project.table or root:project.table"))
        if name.root is not None and self.roots is not None and name.root not in self.roots:
            hint = suggestion(name.root, self.roots, "read-only roots")
            return Found(problem=(f"no environment has a read-only root {name.root!r}", hint))
        if name.project == self.project.name:
            return _find(name.table, self.project, self.broken)
        if self.others is None:
            return Found()
        other = self.others.get(name.project)
        if other is None:
            hint = suggestion(name.project, self.others, "projects")
            return Found(problem=(f"there is no project {name.project!r}", hint))
        return _find(name.table, other.spec, other.broken) if other.spec is not None else Found()

    def unknown_columns(self, path: YamlPath, columns: Iterable[str], table: Table, where: str) -> Iterator[Fault]:
        """A fault for each of the columns (a list at `path`) that `table` does not declare."""
        for index, column in enumerate(columns):
            if column not in table.columns:
                yield self.unknown_column((*path, index), column, table.columns, where)

    def unknown_column(self, path: YamlPath, column: str, known: Iterable[str], where: str) -> Fault:
        """The fault of a column that is not among the known ones of `where`."""
        return self.fault(path, f"{where} has no column {column!r}", suggestion(column, known, "columns"))

    def repeated(self, path: YamlPath, names: Iterable[str]) -> Iterator[Fault]:
        """A fault for each name that a list at `path` holds a second time."""
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen:
                yield self.fault((*path, index), f"{name!r} stands twice", "remove one")
            seen.add(name)

    def not_a_timestamp(self, path: YamlPath, column: str, table: Table) -> Iterator[Fault]:
        """A fault where a declared column is no timestamp."""
        declared = table.columns.get(column)
        if declared is not None and declared.type is not ColumnType.TIMESTAMP:
            yield self.fault(
                path,
                f"the column {column!r} is a {declared.type}, not a timestamp",
                f"declare {column} as timestamp, or name another column",
            )


def _find(table: str, project: Project, broken: frozenset[str]) -> Found:
    found: Table | None = project.sources.get(table) or project.feature_tables.get(table)
    if found is not None or table in broken:
        return Found(found)
    known = [*project.sources, *project.feature_tables, *broken]
    return Found(
        problem=(
            f"{table!r} is neither a source nor a feature table of {project.name}",
            suggestion(table, known, "tables"),
        )
    )
