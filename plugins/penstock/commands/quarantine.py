"""`penstock quarantine`: rows that failed, and their way back."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from penstock.errors import SpecError

_Project = Annotated[str, typer.Argument(help="A project.")]
_Table = Annotated[str, typer.Argument(help="A source or feature table of it.")]
_Reason = Annotated[str, typer.Option(help="Why; kept with the rows.")]
_By = Annotated[str | None, typer.Option(help="Who decides; the login's name by default.")]


def list_rows(
    project: _Project,
    table: Annotated[str | None, typer.Option(help="Only rows of this table.")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Rows that were released or replaced, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the rows in quarantine, each by its id, with every reason and the offending value."""
    from penstock.quality.quarantine import read_quarantine
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    workspace.project(project)
    found = read_quarantine(workspace, project, table)
    rows = found if closed else found[found["outcome"].isna()]
    records = [_readable(row) for row in rows.astype(object).where(rows.notna(), None).to_dict("records")]
    if as_json:
        sys.stdout.write(json.dumps(records, indent=2, default=str) + "\n")
        return
    output = Console(highlight=False)
    (output if output.is_terminal else Console(width=200)).print(_shown(records))


def accept(
    project: _Project,
    table: _Table,
    reason: _Reason,
    rows: Annotated[str | None, typer.Option(help="Ids as `list` shows them, separated by commas.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All open rows of the table.")] = False,
    by: _By = None,
) -> None:
    """Let rows into their table as they are, in its next refresh."""
    from penstock.quality.release import accept_rows
    from penstock.workspace import Workspace

    if (rows is None) != every:
        raise SpecError("which rows? Give --rows ID,ID or --all (`penstock quarantine list` shows the ids)")
    ids = None if every else [name.strip() for name in str(rows).split(",")]
    _say(accept_rows(Workspace.open(), project, table, ids, reason, by or getpass.getuser()))


def correct(
    project: _Project,
    table: _Table,
    file: Annotated[Path, typer.Option(help="CSV or Parquet: every column, corrected; quarantine_id where needed.")],
    reason: _Reason,
    by: _By = None,
) -> None:
    """Put corrected rows in the place of rows in quarantine; they flow into the source in its next refresh."""
    from penstock.quality.release import correct_rows, read_corrections
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    frame = read_corrections(workspace, project, table, file)
    _say(correct_rows(workspace, project, table, frame, reason, by or getpass.getuser()))


def _say(release: Any) -> None:
    text = f"{release.table}: {release.released} rows {release.outcome}, {release.before} were before"
    if release.without_key:
        text += f"; {release.without_key} have a null key and must be corrected"
    sys.stdout.write(f"{text}. They flow in with the table's next refresh.\n" if release.released else f"{text}.\n")


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    parsed = {name: json.loads(row[name]) for name in ("keys", "row", "reasons", "correction") if row[name]}
    return {**row, **parsed}


def _shown(records: list[dict[str, Any]]) -> Table:
    shown = Table("id", "table", "keys", "failed", "as of", "outcome", box=None, pad_edge=False)
    for row in records:
        keys = ", ".join(f"{name}={value}" for name, value in row["keys"].items())
        failed = "\n".join(f"{one['expectation']}({one['column']}): {one['value']}" for one in row["reasons"])
        shown.add_row(row["id"], row["table"], keys, failed, f"{row['as_of']:%Y-%m-%d %H:%M}", row["outcome"] or "open")
    return shown
