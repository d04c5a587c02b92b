"""Who needs a table or a column: asked before it is dropped or changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from penstock.errors import DefinitionChanged, GateError, PenstockError, ShapeChanged, TableError
from penstock.lakehouse.addresses import Address
from penstock.lineage.build import build_graph
from penstock.lineage.graph import Graph, Node, NodeKind
from penstock.workspace import Workspace

_NEED = (NodeKind.VERSION, NodeKind.MODEL, NodeKind.FEATURES)


@dataclass(frozen=True)
class Dependants:
    """The models, versions and feature tables that need something. notes: what could not be looked at."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def dependants(workspace: Workspace, address: Address, columns: Sequence[str] = ()) -> Dependants:
    """Who reads a table, or (with `columns`) some columns of it, directly or through other tables."""
    graph = build_graph(workspace)
    table = f"{address.project}.{address.table}"
    of_table = [node.id for node in graph.nodes if node.kind is NodeKind.COLUMN and node.id.rpartition(".")[0] == table]
    starts = [f"{table}.{column}" for column in columns] or [table, *of_table]
    known = {node.id for node in graph.nodes}
    found = {node.id: node for start in starts if start in known for node in graph.downstream(start).nodes}
    needing = [node for node in found.values() if node.kind in _NEED and node.id != table]
    behind = _tables_of_columns(graph, [node for node in found.values() if node.kind is NodeKind.COLUMN], table)
    return Dependants(tuple(dict.fromkeys([*map(_said, needing), *behind])), graph.notes)


def require_unneeded(workspace: Workspace, address: Address, columns: Sequence[str], force: bool, what: str) -> None:
    """Raises TableError that names who needs the table or columns, unless `force`."""
    if force:
        return
    found = dependants(workspace, address, columns)
    if found.names:
        raise TableError(
            f"{what} is needed by {', '.join(found.names)}: change these first, or give force=True (--force) to break "
            "them"
        )
    if found.notes:
        raise TableError(
            f"whether {what} is needed cannot be told: {'; '.join(found.notes)}. Try again, or give force=True "
            "(--force)"
        )


@contextmanager
def naming_dependants(workspace: Workspace) -> Iterator[None]:
    """Adds to the error of a table whose declaration changed who needs it, or the columns that it has no longer."""
    try:
        yield
    except DefinitionChanged as error:
        raise GateError(f"{error}. {_who_needs(workspace, error.table, error.removed)}") from error
    except ShapeChanged as error:
        raise TableError(f"{error}. {_who_needs(workspace, error.table, ())}") from error


def _who_needs(workspace: Workspace, table: str, removed: Sequence[str]) -> str:
    what = f"The column(s) {', '.join(removed)}, declared no longer," if removed else f"The rows of {table}"
    try:
        found = dependants(workspace, Address.parse(table), removed)
    except PenstockError as problem:
        return f"Who needs {what} could not be asked: {problem}"
    said = f"{what} are needed by {', '.join(found.names) or 'nobody that is known'}"
    return said + (f"; who else needs them could not be asked: {'; '.join(found.notes)}" if found.notes else "")


def _said(node: Node) -> str:
    name = node.id.removeprefix("model:")
    return f"{node.kind} {name}" + (f" ({node.note})" if node.kind is NodeKind.VERSION and node.note else "")


def _tables_of_columns(graph: Graph, columns: Sequence[Node], own: str) -> list[str]:
    names = dict.fromkeys(column.id.rpartition(".")[0] for column in columns)
    return [f"{graph.node(name).kind} {name}" for name in names if name != own and graph.node(name).kind in _NEED]
