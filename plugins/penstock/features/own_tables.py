"""Feature tables that a person makes by the client, beside those that a project declares.

What is known of such a table lives in the Delta table itself: keys, event time, owner and tags as properties,
descriptions as comments. The deltalake library is its one writing engine.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.errors import TableError
from penstock.features.histories import history_path
from penstock.features.known import KNOWN_AT, history_name
from penstock.features.table_info import TableKind, declaration, describe_table
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.system_tables import SYSTEM_TABLES
from penstock.lakehouse.table_properties import CLIENT, EVENT_TIME, MADE_BY, ONLINE, OWNER, TAGS, WRITER
from penstock.spec.common import NAME_PATTERN
from penstock.spec.environment import DEFAULT_ONLINE_STORE, Environment
from penstock.spec.faults import suggestion
from penstock.spec.names import MODEL_TABLE_SUFFIXES, model_tables
from penstock.spec.project import Column, ColumnType, Online
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class TableDefinition:
    """What a table is made from: keys, event time, columns, what people read of it, and where it is served online."""

    primary_keys: tuple[str, ...]
    timestamp_key: str
    columns: Mapping[str, Column]
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    online: Online | None = None

    @property
    def key_columns(self) -> list[str]:
        """The columns that identify a row: primary keys and event time."""
        return [*self.primary_keys, self.timestamp_key]


@dataclass(frozen=True)
class OwnTable:
    """A table made by the client, as it is stored: its address, path and definition."""

    address: Address
    path: str
    definition: TableDefinition

    def definition_with(self, columns: Mapping[str, Column]) -> TableDefinition:
        """The definition with further columns."""
        return replace(self.definition, columns={**self.definition.columns, **columns})


def check_definition(address: Address, definition: TableDefinition) -> None:
    """Raises TableError where keys or event time are missing among the columns, or of a type that cannot be one."""
    columns = definition.columns
    if not definition.primary_keys:
        raise TableError(f"{address}: name the primary keys, the columns that with the event time identify a row")
    for name in columns:
        if not re.match(NAME_PATTERN, name):
            raise TableError(f"{address}: {name!r} is no column's name: write lower-case letters, digits and _")
    for key in definition.key_columns:
        if key not in columns:
            raise TableError(f"{address} has no column {key!r}: {suggestion(key, columns, 'columns')}")
    repeated = [key for key in definition.key_columns if definition.key_columns.count(key) > 1]
    if repeated:
        raise TableError(f"{address}: {repeated[0]} is named twice among primary keys and timestamp key")
    found = columns[definition.timestamp_key].type
    if found is not ColumnType.TIMESTAMP:
        raise TableError(
            f"{address}.{definition.timestamp_key}: the timestamp key is a {found}; make it a timestamp: the moment "
            "from which a row's values may be used (1970-01-01 for what was always known)"
        )


def create(workspace: Workspace, address: Address, definition: TableDefinition, exist_ok: bool) -> OwnTable:
    """Makes the table, empty; its owner is the project's by default.

    With exist_ok, one that is there with the same keys and columns stays, with the description that is given.

    Raises TableError for a name that belongs to something else, a table that is there, or a wrong definition.
    """
    from penstock.lakehouse.small_tables import create_if_missing

    check_name(workspace, address)
    check_definition(address, definition)
    path = workspace.addresses.writable(address)
    if workspace.addresses.find(address) == path:
        there = open_own_table(workspace, address)
        if not exist_ok:
            raise TableError(f"{address} is there already: write_table adds rows, drop_table removes it")
        _check_same(there, definition)
        _serve_online(there, definition.online)
        describe_anew(
            there, definition.description or None, definition.owner or None, definition.tags or None,
            {name: column.description for name, column in definition.columns.items() if column.description},
        )  # fmt: skip
        return there
    _check_own_name(workspace, address)
    owner = definition.owner or workspace.project(address.project).spec.owner
    create_if_missing(
        path, stored_columns(definition), keys=definition.key_columns, description=definition.description,
        properties={EVENT_TIME: definition.timestamp_key, OWNER: owner, TAGS: json.dumps(definition.tags),
                    WRITER: "deltalake", MADE_BY: CLIENT, **_online_property(definition.online)},
    )  # fmt: skip
    return OwnTable(address, path, replace(definition, owner=owner))


def describe_anew(
    table: OwnTable, description: str | None, owner: str | None, tags: Mapping[str, str] | None,
    columns: Mapping[str, str],
) -> None:  # fmt: skip
    """Changes what people read of a table that is there; None leaves it as it is. Its rows stay, and what is equal.

    columns: descriptions by column. Raises TableError for a column that is not there.
    """
    from deltalake import DeltaTable

    require_columns(table.address, table.definition, list(columns))
    there, stored = table.definition, DeltaTable(table.path)
    if description is not None and description != there.description:
        stored.alter.set_table_description(description)
    changed = {OWNER: owner} if owner is not None and owner != there.owner else {}
    if tags is not None and dict(tags) != dict(there.tags):
        changed[TAGS] = json.dumps(dict(tags))
    if changed:
        stored.alter.set_table_properties(changed, raise_if_not_exists=False)
    for name, text in columns.items():
        if text != there.columns[name].description:
            stored.alter.set_column_metadata(name, {"comment": text})


def _serve_online(table: OwnTable, online: Online | None) -> None:
    """Has a table that is there served online from now on, or from elsewhere; without settings nothing changes."""
    from deltalake import DeltaTable

    if online is not None and online != table.definition.online:
        DeltaTable(table.path).alter.set_table_properties(_online_property(online), raise_if_not_exists=False)


def _online_property(online: Online | None) -> dict[str, str]:
    return {} if online is None else {ONLINE: online.model_dump_json()}


def open_own_table(workspace: Workspace, address: Address) -> OwnTable:
    """A table that the client may write. Raises TableError for one that is declared, missing or read-only."""
    if declaration(workspace, address) is not None:
        raise TableError(
            f"{address} is declared in {address.project}'s project.yaml, and its pipeline fills it: change it there, "
            "or write to a table of your own (create_table)"
        )
    info = describe_table(workspace, address)
    path = workspace.addresses.writable(address)
    if info.path != path:
        raise TableError(
            f"{address} lies in a read-only root ({info.path}): make a table of another name, or copy it "
            "with create_table(df=read_table(...)) into a project of this environment"
        )
    if info.kind is not TableKind.FEATURES or info.timestamp_key is None:
        raise TableError(f"{address} was not made by create_table: only such tables are written by this client")
    columns = {
        column.name: Column(type=ColumnType(column.type), description=column.description) for column in info.columns
    }
    definition = TableDefinition(
        info.primary_keys, info.timestamp_key, columns, info.description, info.owner, info.tags, info.online
    )  # fmt: skip
    return OwnTable(address, path, definition)


def stored_columns(definition: TableDefinition) -> dict[str, Column]:
    """The columns of the Delta table: those of the definition, and when a row became known."""
    known = Column(type=ColumnType.TIMESTAMP, description="when the row's present values became known, UTC")
    return {**definition.columns, KNOWN_AT: known}


def parse_schema(schema: Mapping[str, Any]) -> dict[str, Column]:
    """Columns by name from types (`"double"`) or mappings with type and description. Raises TableError."""
    found = {}
    for name, value in schema.items():
        try:
            found[name] = value if isinstance(value, Column) else Column.model_validate(value)
        except ValueError as error:
            known = ", ".join(ColumnType)
            raise TableError(f"schema: {name}: {value!r} is no type; write one of {known}") from error
    return found


def parse_online(address: Address, online: bool | Mapping[str, Any] | None, environment: Environment) -> Online | None:
    """Where a table is served online. Raises TableError for settings that are none, or a store that is not there."""
    if not online:
        return None
    try:
        found = Online.model_validate({} if online is True else online)
    except ValueError as error:
        raise TableError(
            f'{address}: online={online!r} is no setting: write True, or {{"store": "default", "ttl": "6h"}}'
        ) from error
    if environment.online_store(found.store) is None:
        known = sorted({DEFAULT_ONLINE_STORE, *environment.online_stores})
        hint = suggestion(found.store, known, "stores")
        raise TableError(f"{address}: the environment {environment.name} has no online store {found.store!r}: {hint}")
    return found


def infer_schema(rows: "pa.Table", comments: Mapping[str, str]) -> dict[str, Column]:
    """Columns by name from data. Raises TableError for a type that a feature table does not hold."""
    return {
        name: Column(type=_type_of(name, kind), description=comments.get(name, ""))
        for name, kind in zip(rows.schema.names, rows.schema.types, strict=True)
    }


def _type_of(name: str, kind: "pa.DataType") -> ColumnType:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _type_of(name, kind.value_type)
    tests = {
        ColumnType.STRING: lambda: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        ColumnType.BOOLEAN: lambda: types.is_boolean(kind),
        ColumnType.BIGINT: lambda: types.is_int64(kind) or types.is_uint32(kind),
        ColumnType.INT: lambda: types.is_integer(kind) and not types.is_uint64(kind),
        ColumnType.FLOAT: lambda: types.is_float32(kind),
        ColumnType.DOUBLE: lambda: types.is_float64(kind),
        ColumnType.DATE: lambda: types.is_date(kind),
        ColumnType.TIMESTAMP: lambda: types.is_timestamp(kind),
    }
    for found, fits in tests.items():
        if fits():
            return found
    raise TableError(f"column {name}: values of type {kind} cannot be kept; convert them to {', '.join(ColumnType)}")


def to_pandas(frame: Any) -> "pd.DataFrame":
    """A pandas, Spark or Arrow DataFrame as pandas, of the same values; a timestamp without a zone counts as UTC.

    Columns that come by Arrow stay Arrow's: those of pandas would round large whole numbers among nulls.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(frame, pd.DataFrame):
        if [name for name in frame.index.names if name is not None]:
            frame = frame.reset_index()
        return frame
    for to_arrow in ("toArrow", "to_arrow"):  # Spark's, Polars'
        if hasattr(frame, to_arrow):
            frame = getattr(frame, to_arrow)()
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return frame.to_pandas(types_mapper=pd.ArrowDtype)
    raise TableError(f"a pandas, Arrow or Spark DataFrame is needed, not {type(frame).__name__}")


def is_kept_by_penstock(workspace: Workspace, address: Address) -> bool:
    """Whether a table is one of Penstock's own: of the system, or of a declared model."""
    models = workspace.project(address.project).spec.models
    return address.table in SYSTEM_TABLES or any(address.table in model_tables(model) for model in models)


def check_name(workspace: Workspace, address: Address) -> None:
    """Raises TableError where a person cannot give a table this name: it is no name, or it is taken."""
    if address.root is not None:
        raise TableError(f"{address} names the read-only root {address.root}: leave it out to write here")
    if not re.match(NAME_PATTERN, address.table) or address.table.endswith(history_name("")):
        raise TableError(f"{address}: a table's name has lower-case letters, digits and _, and no _history at its end")
    if is_kept_by_penstock(workspace, address):
        raise TableError(f"{address} is a table that Penstock keeps itself: choose another name")
    if declaration(workspace, address) is not None:
        raise TableError(
            f"{address} is declared in {address.project}'s project.yaml: choose another name, or change it there"
        )


def _check_own_name(workspace: Workspace, address: Address) -> None:
    """Raises TableError where a new table of this name would be overwritten later, or write into another one."""
    for suffix in MODEL_TABLE_SUFFIXES:
        if address.table.removesuffix("_rebuilt").endswith(suffix):
            raise TableError(f"{address}: names that end in {suffix} are those of models' tables: choose another name")
    history_path(workspace, address)


def _check_same(there: OwnTable, definition: TableDefinition) -> None:
    if there.definition.key_columns != definition.key_columns:
        raise TableError(
            f"{there.address} is there with the keys {', '.join(there.definition.key_columns)}, not "
            f"{', '.join(definition.key_columns)}: drop_table first, or choose another name"
        )
    check_types(there.address, there.definition, definition.columns)
    extra = [name for name in definition.columns if name not in there.definition.columns]
    if extra:
        raise TableError(f"{there.address} is there without the column(s) {', '.join(extra)}: add them by add_columns")


def check_types(address: Address, definition: TableDefinition, columns: Mapping[str, Column]) -> None:
    """Raises TableError where a column of the table is of another type there."""
    for name, column in columns.items():
        stored = definition.columns.get(name)
        if stored is not None and stored.type is not column.type:
            raise TableError(
                f"{address}.{name} is a {stored.type}, and a {column.type} is given: convert the values, "
                "or add a column of another name"
            )


def require_columns(address: Address, definition: TableDefinition, names: Sequence[str]) -> None:
    """Raises TableError, with the closest names, for a column that the table does not have."""
    for name in names:
        if name not in definition.columns:
            hint = suggestion(name, definition.columns, "columns")
            raise TableError(f"{address} has no column {name!r}: {hint}, or add it by add_columns")
