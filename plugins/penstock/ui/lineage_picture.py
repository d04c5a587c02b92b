"""The lineage of a table as a picture: what it was made from on its left, what uses it on its right."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.lineage.build import build_graph
from penstock.lineage.graph import Edge, Graph, Node, NodeKind
from penstock.lineage.models import Registry
from penstock.workspace import Workspace

WIDTH, HEIGHT, GAP_X, GAP_Y = 230, 46, 90, 18
_LONGEST = 30


@dataclass(frozen=True)
class Box:
    """A node at its place (the upper left corner, in pixels); project, page and name make its address."""

    node: Node
    x: int
    y: int
    project: str
    name: str
    page: str
    start: bool

    @property
    def title(self) -> str:
        """The name, cut to the width of the box."""
        shown = self.node.id.removeprefix("model:")
        return shown if len(shown) <= _LONGEST else f"…{shown[1 - _LONGEST :]}"


@dataclass(frozen=True)
class Line:
    """An edge from the right side of a box to the left side of another; `says` is its meaning."""

    x1: int
    y1: int
    x2: int
    y2: int
    says: str


@dataclass(frozen=True)
class Picture:
    """Boxes and lines in an area of pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def draw_lineage(workspace: Workspace, table: str, may_read: Callable[[str], bool]) -> Picture | None:
    """The picture around `project.table`, without what belongs to projects that the user may not read.

    Registered versions appear where a table of predictions names them: MLflow is not asked. None for a table
    of which nothing is known.
    """
    graph = build_graph(workspace, registry=Registry())
    if table not in {node.id for node in graph.nodes}:
        return None
    found = graph.around(table)
    nodes = tuple(
        replace(node, note="") if node.kind is NodeKind.VERSION else node
        for node in found.nodes
        if may_read(_project(node.id))
    )
    return _lay_out(Graph(nodes, found.edges, table), table)


def _lay_out(graph: Graph, start: str) -> Picture:
    columns = _columns(graph, start)
    left = min(columns.values())
    filled: dict[int, int] = {}
    boxes = {}
    for node in graph.nodes:
        place = columns.get(node.id)
        if place is None:
            continue
        row = filled.get(place, 0)
        filled[place] = row + 1
        x, y = (place - left) * (WIDTH + GAP_X), row * (HEIGHT + GAP_Y)
        boxes[node.id] = Box(node, x, y, _project(node.id), _name(node.id), _page(node), node.id == start)
    lines = [
        _line(boxes[edge.source], boxes[edge.target], edge)
        for edge in graph.edges
        if edge.source in boxes and edge.target in boxes
    ]
    width = (max(columns.values()) - left) * (WIDTH + GAP_X) + WIDTH
    height = max(filled.values()) * (HEIGHT + GAP_Y)
    return Picture(width, height, tuple(boxes.values()), tuple(lines))


def _line(source: Box, target: Box, edge: Edge) -> Line:
    says = edge.how if edge.version is None else f"{edge.how}, version {edge.version}"
    return Line(source.x + WIDTH, source.y + HEIGHT // 2, target.x, target.y + HEIGHT // 2, says)


def _columns(graph: Graph, start: str) -> dict[str, int]:
    """By node its column: 0 for the start, the longest way to it on either side for the others."""
    found = {start: 0}
    for direction in (-1, 1):
        here, steps = {start}, 0
        while here and steps < len(graph.nodes):
            steps += 1
            if direction < 0:
                here = {edge.source for edge in graph.edges if edge.target in here and edge.source != start}
            else:
                here = {edge.target for edge in graph.edges if edge.source in here and edge.target != start}
            found |= dict.fromkeys(here, direction * steps)
    return found


def _project(identifier: str) -> str:
    return identifier.removeprefix("model:").partition(".")[0]


def _name(identifier: str) -> str:
    return identifier.partition(".")[2].partition("/")[0]


def _page(node: Node) -> str:
    """The kind of page that a node has here; empty for none."""
    if node.kind in (NodeKind.MODEL, NodeKind.VERSION):
        return "models"
    declared = (NodeKind.SOURCE, NodeKind.FEATURES, NodeKind.TRAINING_SET, NodeKind.PREDICTIONS)
    return "tables" if node.kind in declared and node.version is not None else ""
