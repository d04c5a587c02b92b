"""What a Delta table says of itself in its properties: keys, event time, owner, tags, who made it, how it is served."""

import json
from typing import TYPE_CHECKING

from penstock.errors import TableError
from penstock.spec.project import ColumnType, Online

if TYPE_CHECKING:
    from deltalake import DeltaTable

PRIMARY_KEYS, EVENT_TIME, AVAILABLE_AT = "penstock.primary_keys", "penstock.event_time", "penstock.available_at"
OWNER, TAGS, WRITER, MADE_BY = "penstock.owner", "penstock.tags", "penstock.writer", "penstock.made_by"
ONLINE = "penstock.online"
CLIENT = "FeatureStore"

_SPARK_NAMES = {"integer": "int", "long": "bigint", "short": "smallint", "byte": "tinyint"}


def is_made_by_client(path: str) -> bool:
    """Whether a readable Delta table lies there that `FeatureStore.create_table` made."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(path).metadata().configuration.get(MADE_BY) == CLIENT
    except (DeltaError, OSError):  # a folder that is no readable table hides no other one
        return False


def stored_keys(table: "DeltaTable") -> tuple[str, ...]:
    """The primary keys, without the event time."""
    properties = table.metadata().configuration
    return tuple(key for key in json.loads(properties.get(PRIMARY_KEYS, "[]")) if key != properties.get(EVENT_TIME))


def stored_types(table: "DeltaTable") -> dict[str, str]:
    """The columns that are not Penstock's own (`_known_at`), with their Spark SQL types."""
    kinds = {field.name: str(getattr(field.type, "type", field.type)) for field in table.schema().fields}
    return {name: _SPARK_NAMES.get(kind, kind) for name, kind in kinds.items() if not name.startswith("_")}


def stored_column_types(address: str, table: "DeltaTable") -> dict[str, ColumnType]:
    """As `stored_types`. Raises TableError for a type that a feature table does not hold."""
    found = {}
    for name, kind in stored_types(table).items():
        try:
            found[name] = ColumnType(kind)
        except ValueError as error:
            raise TableError(
                f"{address}.{name} is a {kind}, which no feature is: drop it, or convert it to {', '.join(ColumnType)}"
            ) from error
    return found


def stored_online(table: "DeltaTable") -> Online | None:
    """Where and for how long the table is served online; None where it is not."""
    text = table.metadata().configuration.get(ONLINE)
    return Online.model_validate_json(text) if text else None
