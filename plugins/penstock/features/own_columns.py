"""Changing the columns of a table of one's own."""

from collections.abc import Callable, Mapping

from penstock.clock import now
from penstock.errors import TableError
from penstock.features.histories import find_history
from penstock.features.own_tables import OwnTable, check_definition, check_types, require_columns
from penstock.lakehouse.attempts import attempts
from penstock.lakehouse.records import latest_record
from penstock.lakehouse.table_properties import stored_types
from penstock.spec.project import Column
from penstock.workspace import Workspace


def add_columns(workspace: Workspace, table: OwnTable, columns: Mapping[str, Column]) -> None:
    """Adds columns, null in the table's rows.

    Raises TableError for one that is there with another type, and for one that was: its old values are kept.
    """
    from penstock.lakehouse.small_tables import create_if_missing

    check_definition(table.address, table.definition_with(columns))
    check_types(table.address, table.definition, columns)
    _check_old_types(workspace, table, columns)
    create_if_missing(table.path, dict(columns), keys=[], description=table.definition.description)


def _check_old_types(workspace: Workspace, table: OwnTable, columns: Mapping[str, Column]) -> None:
    """Raises TableError where the old row versions have a column of this name and another type."""
    from deltalake import DeltaTable

    history = find_history(workspace, table.address)
    kept = stored_types(DeltaTable(history)) if history is not None else {}
    for name, column in columns.items():
        if kept.get(name, column.type) != column.type:
            raise TableError(
                f"{table.address}.{name} was a {kept[name]} once, and its old values are kept in {history}: give the "
                f"{column.type} another name"
            )


def drop_columns(workspace: Workspace, table: OwnTable, names: list[str], check: Callable[[], None]) -> None:
    """Removes columns, by writing the table again. `check` may refuse it. Raises TableError for keys, too.

    What another writer commits meanwhile is kept: the table is then read anew. Raises ServiceError where others are
    faster many times in a row.
    """
    from deltalake.exceptions import CommitFailedError

    require_columns(table.address, table.definition, names)
    keys = [name for name in names if name in table.definition.key_columns]
    if keys:
        raise TableError(f"{table.address}.{keys[0]} is a key: a table without it is another table, make a new one")
    check()
    for _ in attempts(str(table.address)):
        try:
            _write_without(workspace, table.path, names)
        except CommitFailedError:
            continue
        return


def _write_without(workspace: Workspace, path: str, names: list[str]) -> None:
    """Writes the table again, as it was read: the commit fails where it is another by then."""
    from deltalake import CommitProperties, DeltaTable, write_deltalake

    from penstock.lakehouse.records import record
    from penstock.lakehouse.small_tables import read_arrow

    there = DeltaTable(path)
    last = latest_record(there)
    moment = last.as_of_moment if last else now()
    commit = record(moment, last.inputs if last else None, run=workspace.lineage.run)
    rows = read_arrow(path, version=there.version())
    kept = rows.drop_columns([name for name in names if name in rows.column_names])
    write_deltalake(
        there, kept, mode="overwrite", schema_mode="overwrite",
        commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.to_json()}),
    )  # fmt: skip
