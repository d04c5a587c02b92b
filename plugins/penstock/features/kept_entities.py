"""The entity rows of a training set as a table at a version, from which they can be read again.

Rows of pandas and Arrow are written by this process, those of a Spark DataFrame by Spark; a table that is named is
read where it lies. Only what came from this process goes through it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from penstock.errors import TableError
from penstock.features.given_entities import check_arrow, check_columns, check_entities, repeats, require_times
from penstock.features.inputs import InputTable
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.attempts import attempts
from penstock.lakehouse.records import CommitRecord, version_of
from penstock.lakehouse.session import read_version
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

Entities: TypeAlias = Union["pd.DataFrame", "pa.Table", "DataFrame", str]


@dataclass(frozen=True)
class KeptEntities:
    """Entity rows in a table: its version, their columns, and what a person should know of them."""

    table: InputTable
    columns: list[str]
    warnings: list[str]


def keep_entities(
    workspace: Workspace, project: str, title: str, entities: Entities, timestamp_key: str, label: str | None,
    lookups: Mapping[str, InputTable], commit: CommitRecord,
) -> KeptEntities:  # fmt: skip
    """The entity rows as a table: `_entities_<title>`, or the one that is named, at its newest version.

    lookups: the tables that are looked up, as they are open: one that is named as entities, too, is read at their
    version. Raises TableError for rows that cannot be entity rows.
    """
    where = f"{project}.{title}"
    if isinstance(entities, str):
        return _named(workspace, Address.parse(entities, project), timestamp_key, label, lookups, where)
    kept = f"{project}._entities_{title}"
    path = workspace.addresses.writable(kept)
    if hasattr(entities, "sparkSession"):
        _check_types(entities, timestamp_key, label, where)
        _write_by_spark(path, entities, commit, where)
        table = InputTable(kept, kept, path, timestamp_key, version_of(path, commit))
        columns = list(entities.columns)
        return KeptEntities(table, columns, _examine(entities.sparkSession, table, columns, where))
    rows, warnings = _in_arrow(entities, timestamp_key, label, where)
    _write_here(path, rows, commit, where)
    table = InputTable(kept, kept, path, timestamp_key, version_of(path, commit))
    return KeptEntities(table, rows.column_names, warnings)


def _in_arrow(entities: Any, timestamp_key: str, label: str | None, where: str) -> "tuple[pa.Table, list[str]]":
    import pandas as pd
    import pyarrow as pa

    if isinstance(entities, pa.Table):
        return check_arrow(entities, timestamp_key, label, where)
    if isinstance(entities, pd.DataFrame):
        return check_entities(entities, timestamp_key, label, where)
    raise TableError(
        f"{where}: entities must be a DataFrame of pandas or Spark, an Arrow table or a table's name, not "
        f"{type(entities).__name__}"
    )


def _named(
    workspace: Workspace, address: Address, timestamp_key: str, label: str | None, lookups: Mapping[str, InputTable],
    where: str,
) -> KeptEntities:  # fmt: skip
    from penstock.lakehouse.small_tables import version

    path, name = workspace.addresses.readable(address), str(address)
    opened = next((table.version for table in lookups.values() if table.address == name), None)
    table = InputTable(name, name, path, timestamp_key, version(path) if opened is None else opened)
    with workspace.spark() as spark:
        frame = read_version(spark, table.path, table.version)
        frame = frame.select(*(quote(column) for column in frame.columns if not column.startswith("_")))
        _check_types(frame, timestamp_key, label, where)
        return KeptEntities(table, list(frame.columns), _examine(spark, table, list(frame.columns), where))


def _check_types(frame: "DataFrame", timestamp_key: str, label: str | None, where: str) -> None:
    from pyspark.sql.types import TimestampNTZType, TimestampType

    check_columns(list(frame.columns), timestamp_key, label, where)
    for found in frame.schema.fields:
        if isinstance(found.dataType, TimestampNTZType):
            raise TableError(
                f"{where}: the timestamps in {found.name} have no time zone: cast the column to timestamp in a session "
                "whose zone (spark.sql.session.timeZone) is theirs"
            )
        if found.name == timestamp_key and not isinstance(found.dataType, TimestampType):
            raise TableError(f"{where}: {found.name} is of the type {found.dataType.simpleString()}, no timestamp")


def _examine(spark: "SparkSession", table: InputTable, columns: list[str], where: str) -> list[str]:
    """What a person should know of the rows. Raises TableError where there are none, or some without a time."""
    from pyspark.sql.connect import functions as F
    from pyspark.sql.types import MapType

    frame = read_version(spark, table.path, table.version)
    maps = [found.name for found in frame.schema.fields if isinstance(found.dataType, MapType)]
    known = [name for name in columns if name not in maps]
    parts = [part for name in known for part in (F.col(quote(name)), F.col(quote(name)).isNull())]
    seen = frame.agg(
        F.count(F.lit(1)).alias("rows"), F.count_if(F.col(quote(table.available_at)).isNull()).alias("nulls"),
        F.count_distinct(F.xxhash64(*parts)).alias("different"),
    ).collect()[0]  # fmt: skip
    if not seen["rows"]:
        raise TableError(f"{where}: there is no entity row")
    require_times(seen["nulls"], seen["rows"], table.available_at, where)
    return repeats(0 if maps else seen["rows"] - seen["different"], seen["rows"])  # maps cannot be compared


def _write_by_spark(path: str, frame: "DataFrame", commit: CommitRecord, where: str) -> None:
    from pyspark.errors import AnalysisException

    writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
    try:
        writer.option("userMetadata", commit.to_json()).save(path)
    except AnalysisException as error:
        raise TableError(f"{where}: the entity rows cannot be kept as a table: {error}") from error


def _write_here(path: str, rows: "pa.Table", commit: CommitRecord, where: str) -> None:
    """Writes entity rows as a version of their own, whoever else keeps rows under the same name."""
    from deltalake import CommitProperties, write_deltalake
    from deltalake.exceptions import CommitFailedError, DeltaError

    properties = CommitProperties(custom_metadata={"userMetadata": commit.to_json()})
    for _ in attempts(where):
        try:
            return write_deltalake(
                path, rows, mode="overwrite", schema_mode="overwrite", commit_properties=properties
            )  # fmt: skip
        except CommitFailedError:
            continue  # nobody needs the newest version: each is read as the version that it is
        except DeltaError as error:
            raise TableError(f"{where}: the entity rows cannot be kept as a table: {error}") from error
    raise AssertionError  # attempts raises before it ends
