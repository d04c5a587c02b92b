"""`penstock online`: publishes, compares and reads the online store."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from penstock.errors import GateError, TableError

if TYPE_CHECKING:
    from penstock.spec.project import ColumnType
    from penstock.workspace import Workspace

Target = Annotated[str, typer.Argument(metavar="PROJECT[.TABLE]", help="A project's online tables, or one of them.")]
AsOf = Annotated[str | None, typer.Option(help="The moment that counts; the replay clock, or now.")]
console = Console(stderr=True, highlight=False)


def publish(
    target: Target,
    as_of: AsOf = None,
    full: Annotated[bool, typer.Option("--full", help="Write everything anew, not only what changed.")] = False,
) -> None:
    """Publish the newest value of each key to the online store."""
    from penstock.errors import NothingToDo
    from penstock.online.publish import publish_table

    workspace, moment = _open(as_of)
    for project, table in _tables(workspace, target):
        try:
            found = publish_table(workspace, project, table, moment, full=full)
        except NothingToDo as reason:
            console.print(f"nothing to do: {reason}", markup=False, soft_wrap=True)
            continue
        said = f"{found.table}@{found.version}: {found.rows:,} keys written, {found.removed:,} removed"
        console.print(f"{said}, {found.mode} ({found.why})", markup=False, soft_wrap=True)


def compare(
    target: Target,
    as_of: AsOf = None,
    examples: Annotated[int, typer.Option(min=0, help="How many differing keys to show of each kind.")] = 10,
) -> None:
    """Compare every online value with the lakehouse; print the differences as JSON and exit with 1 if there are any."""
    from penstock.online.compare import compare_online

    workspace, moment = _open(as_of)
    verdicts = [
        compare_online(workspace, project, table, moment, examples) for project, table in _tables(workspace, target)
    ]
    sys.stdout.write(json.dumps([verdict.to_dict() for verdict in verdicts], indent=2, default=str) + "\n")
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError("; ".join(f"{verdict.subject}: {verdict.reason}" for verdict in failed))


def get(
    table: Annotated[str, typer.Argument(metavar="PROJECT.TABLE")],
    key: Annotated[list[str], typer.Argument(metavar="COLUMN=VALUE…", help="A value for each primary key.")],
    at: Annotated[str | None, typer.Option(help="The moment at which values may be too old.")] = None,
) -> None:
    """Print the row of a key as JSON; null where there is none."""
    from penstock.clock import parse_as_of
    from penstock.online.offline import online_table
    from penstock.online.reading import OnlineFeatures
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    project = table.partition(".")[0]
    columns = online_table(workspace, project, table).types
    values = dict(_parse_key(table, columns, part) for part in key)
    with OnlineFeatures(workspace, project) as features:
        found = features.rows({table: [values]}, parse_as_of(at) if at else None)[table][0]
    sys.stdout.write(json.dumps(found, indent=2, default=_json_value) + "\n")


def _parse_key(table: str, columns: dict[str, ColumnType], part: str) -> tuple[str, Any]:
    from penstock.spec.project import ColumnType

    name, equals, text = part.partition("=")
    if not equals or name not in columns:
        raise TableError(f"{table}: {part!r} is no key: write COLUMN=VALUE with one of its primary keys")
    parse: dict[ColumnType, Any] = {
        ColumnType.INT: int, ColumnType.BIGINT: int, ColumnType.BOOLEAN: {"true": True, "false": False}.__getitem__,
        ColumnType.DATE: lambda value: datetime.fromisoformat(value).date(),
        ColumnType.TIMESTAMP: datetime.fromisoformat,
    }  # fmt: skip
    kind = columns[name]
    try:
        return name, parse.get(kind, str)(text)
    except (ValueError, KeyError) as error:
        raise TableError(f"{table}: the key {name} is declared as {kind}, but given as {text!r}") from error


def _json_value(value: Any) -> str:
    return str(value.isoformat())


def _open(as_of: str | None) -> tuple[Workspace, datetime]:
    from penstock.workspace import Workspace

    workspace = Workspace.open()
    return workspace, workspace.moment(as_of or None)


def _tables(workspace: Workspace, target: str) -> list[tuple[str, str]]:
    from penstock.online.offline import online_tables

    project, _, table = target.partition(".")
    found = [table] if table else online_tables(workspace, project)
    if not found:
        raise TableError(f"{project} has no online tables: write `online: true` in a feature table's declaration")
    return [(project, name) for name in found]
