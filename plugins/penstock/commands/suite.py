"""`penstock suite`: suites of expectations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.errors import SpecError


def propose(
    project: Annotated[str, typer.Argument(help="A project.")],
    table: Annotated[str, typer.Argument(help="A source or feature table of it, with rows.")],
    output: Annotated[
        Path | None, typer.Option(help="The file to write; the project's expectations/TABLE.yaml by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a first suite from a table's data, with a comment on where each number comes from."""
    from penstock.quality.proposal import propose_suite
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    loaded = workspace.project(project)
    file = output or loaded.folder / f"expectations/{table}.yaml"
    if file.exists() and not force:
        raise SpecError(f"{file} is there: choose another file by --output, or replace it by --force")
    text = propose_suite(workspace, project, table)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {file}: read it, and make the bounds what can be\n")
    source = loaded.spec.sources.get(table)
    declared = source.expectations if source else loaded.spec.feature_tables[table].expectations
    if declared is None and file.is_relative_to(loaded.folder):
        where = "sources" if source else "feature_tables"
        line = f"expectations: {file.relative_to(loaded.folder)}"
        sys.stdout.write(f"to use it, add to {where}.{table} in {loaded.folder / 'project.yaml'}: {line}\n")
