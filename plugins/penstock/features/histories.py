"""Where the old row versions of a feature table lie: `<table>_history`, which belongs to that table alone."""

from penstock.errors import TableError
from penstock.features.known import KNOWN_UNTIL, history_name
from penstock.lakehouse.addresses import Address
from penstock.workspace import Workspace


def history_path(workspace: Workspace, table: Address) -> str:
    """The path of the table of old row versions, whether it is there yet or not.

    Raises TableError where a table of other rows has its name: it would be written into, and dropped with this one.
    """
    address = Address(table.project, history_name(table.table))
    path = workspace.addresses.writable(address)
    if workspace.addresses.find(address) == path and not is_history(path):
        raise TableError(
            f"{address} ({path}) holds other rows than old versions of {table}, which have their place there: "
            "give one of the two tables another name"
        )
    return path


def find_history(workspace: Workspace, table: Address) -> str | None:
    """The table of old row versions, in whatever root; None where there is none. One of other rows is none."""
    path = workspace.addresses.find(Address(table.project, history_name(table.table), table.root))
    return path if path is not None and is_history(path) else None


def is_history(path: str) -> bool:
    """Whether a Delta table holds old row versions: only such a table says until when a row was known."""
    from deltalake import DeltaTable

    return any(field.name == KNOWN_UNTIL for field in DeltaTable(path).schema().fields)
