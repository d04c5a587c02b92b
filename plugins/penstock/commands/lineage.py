"""`penstock lineage`: what a table, column or model version was made from, and what uses it."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock.lineage.graph import Graph


def lineage(
    name: Annotated[
        str,
        typer.Argument(metavar="PROJECT.TABLE[.COLUMN]", help="A table, a column, or a version PROJECT.MODEL/3."),
    ],
    upstream: Annotated[bool, typer.Option("--upstream", help="Only what it was made from.")] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Only what uses it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart.")] = False,
) -> None:
    """Show what a table, column or model version was made from, and what uses it."""
    from penstock.lineage.build import lineage_of
    from penstock.workspace import Workspace

    graph = lineage_of(Workspace.open(), name)
    if upstream != downstream:
        graph = graph.upstream() if upstream else graph.downstream()
    sys.stdout.write(_shown(graph, as_json, as_mermaid) + "\n")


def _shown(graph: "Graph", as_json: bool, as_mermaid: bool) -> str:
    if as_json:
        return json.dumps(graph.to_dict(), indent=2)
    return graph.to_mermaid() if as_mermaid else graph.to_text()
