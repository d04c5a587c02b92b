"""Dropping a table that nobody declares and nobody needs: a person's own one, or one that was declared once."""

from dataclasses import dataclass
from datetime import datetime

from penstock.clock import now
from penstock.errors import TableError
from penstock.features.histories import find_history, is_history
from penstock.features.known import history_name
from penstock.features.own_tables import is_kept_by_penstock
from penstock.features.table_info import declaration, table_names
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.removal import remove_folder, set_aside
from penstock.lineage.dependants import require_unneeded
from penstock.spec.faults import suggestion
from penstock.workspace import Workspace

DROPPED = "_dropped"


@dataclass(frozen=True)
class Dropped:
    """A table that is gone: its last version and rows, and where its files lie (empty: removed)."""

    table: str
    version: int
    rows: int
    kept: str = ""


def drop_table(
    workspace: Workspace, address: Address, *, keep_files: bool = False, force: bool = False
) -> Dropped:  # fmt: skip
    """Removes a table with its history; with `keep_files` they are moved to `_dropped/<table>_<moment>/` beside it.

    force: although models or other tables need it. Raises TableError for a table that is declared, Penstock's own, not
    there, in a read-only root, or needed, naming who needs it; and where that cannot be told.
    """
    from deltalake import DeltaTable

    path = droppable(workspace, address)
    require_unneeded(workspace, address, (), force, str(address))
    stored = DeltaTable(path)
    version, rows = stored.version(), stored.count()
    history = workspace.addresses.writable(Address(address.project, history_name(address.table)))
    found = {history_name(address.table): history} if find_history(workspace, address) == history else {}
    paths = {**found, address.table: path}  # the table goes last: what is killed in between is dropped by a repeat
    remove_folder(workspace.addresses.writable(Address(address.project, f"_staging_{address.table}")))
    if not keep_files:
        for place in paths.values():
            remove_folder(place)
        return Dropped(str(address), version, rows)
    kept = f"{path.rpartition('/')[0]}/{DROPPED}/{address.table}_{_stamp(now())}"
    for name, place in paths.items():
        set_aside(place, f"{kept}/{name}")
    return Dropped(str(address), version, rows, kept)


def droppable(workspace: Workspace, address: Address) -> str:
    """The path of a table that may be dropped, as far as the project and the lakehouse say. Raises TableError."""
    _check_free(workspace, address)
    path, found = workspace.addresses.writable(address), workspace.addresses.find(address)
    if found is None:
        there = [name.partition(".")[2] for name in table_names(workspace, address.project)]
        known = [*workspace.addresses.tables(address.project), *there]
        hint = suggestion(address.table, known, "tables")
        raise TableError(f"there is no table {address} in {workspace.environment.name}: {hint}")
    if found != path:
        raise TableError(f"{address} lies in a read-only root ({found}): it is dropped in its own environment")
    return path


def _check_free(workspace: Workspace, address: Address) -> None:
    if address.root is not None:
        raise TableError(f"{address} names the read-only root {address.root}: leave it out to drop a table here")
    if declaration(workspace, address) is not None:
        raise TableError(
            f"{address} is declared in {address.project}'s project.yaml, and its pipeline would make it again: remove "
            "it there first"
        )
    if is_kept_by_penstock(workspace, address):
        raise TableError(
            f"{address} is a table that Penstock keeps itself: it stays as long as the project and its models"
        )
    path = workspace.addresses.find(address)
    if address.table.startswith("_") or (path is not None and is_history(path)):
        raise TableError(f"{address} belongs to another table: drop that one, it goes along")


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%SZ}"
