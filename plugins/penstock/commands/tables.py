"""`penstock table`: tables that are no longer wanted."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def drop(
    table: Annotated[str, typer.Argument(metavar="PROJECT.TABLE", help="A table that no project.yaml declares.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_files: Annotated[
        bool, typer.Option("--keep-files", help="Move it to _dropped/ instead, from where it can be brought back.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Although models or other tables need it.")] = False,
) -> None:
    """Drop a table with its history; refused while it is declared, or while models or features need it."""
    from penstock.lakehouse.addresses import Address
    from penstock.lineage.dropping import drop_table, droppable
    from penstock.workspace import Workspace

    workspace, address = Workspace.open(), Address.parse(table)
    path = droppable(workspace, address)
    if not yes:
        typer.confirm(f"Drop {address} ({path})?", abort=True)
    done = drop_table(workspace, address, keep_files=keep_files, force=force)
    sys.stdout.write(f"{done.table}@{done.version}, {done.rows:,} rows: dropped\n")
    if done.kept:
        sys.stdout.write(f"Its files lie in {done.kept}: move its folders back to bring it back\n")
