"""A graph of what was made from what; shown as text, as JSON and as a Mermaid picture."""

import html
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from penstock.errors import TableError
from penstock.spec.faults import suggestion


class NodeKind(StrEnum):
    """What a node stands for."""

    SOURCE = "raw table"
    FEATURES = "feature table"
    COLUMN = "column"
    TRAINING_SET = "training set"
    MODEL = "declared model"
    VERSION = "model version"
    PREDICTIONS = "predictions"
    TABLE = "table"


@dataclass(frozen=True)
class Node:
    """`project.table`, `project.table.column`, `model:project.model` or `project.model/version`.

    version: the newest of a table. note: a stage, an owner, or that the table is not there.
    """

    id: str
    kind: NodeKind
    version: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Edge:
    """`target` was made from `source`. how: by what. version: that of the source's table which was read."""

    source: str
    target: str
    how: str
    version: int | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes and edges; `start` is what was asked for. notes: what could not be found out, and why."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    start: str | None = None
    notes: tuple[str, ...] = ()

    def node(self, identifier: str) -> Node:
        """A node by its id. Raises TableError, with the closest ids, for an unknown one."""
        for node in self.nodes:
            if node.id == identifier:
                return node
        hint = suggestion(identifier, (node.id for node in self.nodes), "names")
        raise TableError(f"nothing is known about {identifier!r}: {hint}")

    def upstream(self, start: str | None = None) -> "Graph":
        """What a node was made from, over all steps."""
        return self._reach(self._start(start), backwards=True)

    def downstream(self, start: str | None = None) -> "Graph":
        """What was made from a node, over all steps."""
        return self._reach(self._start(start), backwards=False)

    def around(self, start: str) -> "Graph":
        """Both directions from a node."""
        up, down = self.upstream(start), self.downstream(start)
        nodes = tuple(dict.fromkeys([*up.nodes, *down.nodes]))
        return Graph(nodes, tuple(dict.fromkeys([*up.edges, *down.edges])), start, self.notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: start, nodes, edges, notes."""
        return {
            "start": self.start, "nodes": [asdict(node) for node in self.nodes],
            "edges": [asdict(edge) for edge in self.edges], "notes": list(self.notes),
        }  # fmt: skip

    def to_text(self) -> str:
        """Two trees: what the start was made from, and what was made from it; then the notes."""
        start = self.node(self._start(None))
        lines = [_label(start)]
        for title, backwards in (("made from", True), ("used by", False)):
            tree = list(self._tree(start.id, backwards, 1, {start.id}))
            lines += [f"{title}:", *(tree or ["  nothing known"])]
        return "\n".join([*lines, *self.notes])

    def to_mermaid(self) -> str:
        """A Mermaid flowchart, from left to right."""
        names = {node.id: f"n{number}" for number, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            left, right = _SHAPES.get(node.kind, ("[", "]"))
            lines.append(f'  {names[node.id]}{left}"{html.escape(_label(node))}"{right}')
        for edge in self.edges:
            said = html.escape(_how(edge))
            lines.append(f'  {names[edge.source]} -->|"{said}"| {names[edge.target]}')
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        """How a notebook shows it: Mermaid, where it draws such pictures, else readable text."""
        return f"```mermaid\n{self.to_mermaid()}\n```"

    def _start(self, start: str | None) -> str:
        found = start or self.start
        if found is None:
            raise TableError("from where? Give a table, a column or a model version")
        return found

    def _reach(self, start: str, backwards: bool) -> "Graph":
        kinds = {node.id: node.kind for node in self.nodes}
        by_column = {start} if self.node(start).kind in _HAS_COLUMNS else set()
        reached, waiting, edges = {start}, [start], []
        while waiting:
            here = waiting.pop(0)
            for edge in self.edges:
                near, far = (edge.target, edge.source) if backwards else (edge.source, edge.target)
                if near != here or (kinds[far] is NodeKind.COLUMN and here not in by_column):
                    continue
                if kinds[far] is NodeKind.COLUMN:
                    by_column.add(far)
                edges.append(edge)
                if far not in reached:
                    reached.add(far)
                    waiting.append(far)
        nodes = tuple(node for node in self.nodes if node.id in reached)
        return Graph(nodes, tuple(dict.fromkeys(edges)), start, self.notes)

    def _tree(self, here: str, backwards: bool, depth: int, above: set[str]) -> Iterator[str]:
        for edge in self.edges:
            near, far = (edge.target, edge.source) if backwards else (edge.source, edge.target)
            if near == here and far not in above:
                yield f"{'  ' * depth}{_label(self.node(far))}  <- {_how(edge)}"
                yield from self._tree(far, backwards, depth + 1, {*above, far})


def joined(graphs: Iterable[Graph]) -> Graph:
    """Several graphs as one; a node that several have keeps its first form."""
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    notes: dict[str, None] = {}
    for graph in graphs:
        for node in graph.nodes:
            nodes.setdefault(node.id, node)
        edges |= dict.fromkeys(graph.edges)
        notes |= dict.fromkeys(graph.notes)
    return Graph(tuple(nodes.values()), tuple(edges), None, tuple(notes))


# Columns are followed from here on; behind a table as a whole, tables are.
_HAS_COLUMNS = (NodeKind.COLUMN, NodeKind.VERSION, NodeKind.MODEL)
_SHAPES = {
    NodeKind.SOURCE: ("[(", ")]"), NodeKind.MODEL: ("{{", "}}"), NodeKind.VERSION: ("([", "])"),
    NodeKind.COLUMN: ("(", ")"),
}  # fmt: skip


def _label(node: Node) -> str:
    version = f"@{node.version}" if node.version is not None else ""
    note = f", {node.note}" if node.note else ""
    return f"{node.id.removeprefix('model:')}{version} ({node.kind}{note})"


def _how(edge: Edge) -> str:
    return edge.how if edge.version is None else f"{edge.how}, version {edge.version}"
