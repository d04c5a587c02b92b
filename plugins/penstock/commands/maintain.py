"""`penstock maintain`: maintenance of a project's tables, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from penstock.maintenance import MaintainedProject


def maintain(
    project: Annotated[str, typer.Argument(help="The project whose tables are maintained.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    retention: Annotated[
        str | None, typer.Option(help="How long files of older versions stay, such as 14d; the environment's.")
    ] = None,
) -> None:
    """Join small files of a project's tables, and remove what nobody needs any more."""
    from penstock.maintenance import maintain_project, parse_retention
    from penstock.workspace import Workspace

    done = maintain_project(Workspace.open(), project, dry_run=dry_run, retention=parse_retention(retention))
    output = Console(highlight=False)
    print_maintained(done, output if output.is_terminal else Console(highlight=False, width=160))


def print_maintained(done: MaintainedProject, output: Console) -> None:
    """Prints what was done to each table, which versions stay and for which model, and what was freed."""
    shown = Table("table", "engine", "files", "bytes", "removed", "pinned by", box=None, pad_edge=False)
    for table in done.tables:
        shown.add_row(
            table.table, table.engine, f"{table.files_before:,} → {table.files_after:,}",
            f"{table.bytes_before:,} → {table.bytes_after:,}", f"{table.removed_files:,}",
            "\n".join(f"{version} ({why})" for version, why in table.pinned.items()),
        )  # fmt: skip
    output.print(shown)
    for table in done.tables:
        for note in table.notes:
            output.print(f"{table.table}: {note}", markup=False, soft_wrap=True)
    would = "would be " if done.dry_run else ""
    if done.environments_removed:
        count = len(done.environments_removed)
        output.print(f"old environments of the check own_environment: {count} {would}removed")
    output.print(f"{done.bytes_freed:,} bytes {would}freed")
