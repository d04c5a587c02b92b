"""Delta tables read and written in process by the deltalake library: small ones, and those that need no Spark.

Timestamps are UTC throughout. A table is created on its first write, with its keys, description and
change data feed.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError, TableError
from penstock.lakehouse.attempts import attempts
from penstock.lakehouse.records import CommitRecord
from penstock.lakehouse.system_tables import SYSTEM_TABLES, SystemTable
from penstock.spec.project import Column, ColumnType

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable, Field
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem

_PROPERTIES = {"delta.enableChangeDataFeed": "true", "delta.logRetentionDuration": "interval 3650 days"}


def arrow_schema(columns: dict[str, ColumnType], required: list[str] | None = None) -> "pa.Schema":
    """The Arrow schema of declared columns; `required` ones may not be null."""
    import pyarrow as pa

    types = {
        ColumnType.STRING: pa.string(), ColumnType.BOOLEAN: pa.bool_(), ColumnType.INT: pa.int32(),
        ColumnType.BIGINT: pa.int64(), ColumnType.FLOAT: pa.float32(), ColumnType.DOUBLE: pa.float64(),
        ColumnType.DATE: pa.date32(), ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    return pa.schema(
        [pa.field(name, types[kind], nullable=name not in (required or [])) for name, kind in columns.items()]
    )


def create_if_missing(
    path: str,
    columns: dict[str, Column],
    *,
    keys: list[str],
    description: str,
    properties: dict[str, str] | None = None,
) -> "DeltaTable":
    """The table at `path`, made with its declared columns, keys and description where it is missing.

    A column that is declared and not there yet is added. Raises TableError where a type was changed.
    """
    from deltalake import DeltaTable, Schema

    declared = _delta_fields(columns, keys)
    if not DeltaTable.is_deltatable(path):
        DeltaTable.create(
            path, Schema(declared), mode="ignore", description=description,
            configuration={**_PROPERTIES, "penstock.primary_keys": json.dumps(keys), **(properties or {})},
            raise_if_key_not_exists=False,
        )  # fmt: skip
    table = DeltaTable(path)
    _evolve(table, declared)
    return table


def _delta_fields(columns: dict[str, Column], keys: list[str]) -> list["Field"]:
    from deltalake import Field, Schema

    arrow = arrow_schema({name: column.type for name, column in columns.items()}, keys)
    notes = {name: {"comment": column.description} for name, column in columns.items() if column.description}
    return [
        Field(field.name, field.type, nullable=field.nullable, metadata=notes.get(field.name))
        for field in Schema.from_arrow(arrow).fields
    ]


def _evolve(table: "DeltaTable", declared: list["Field"]) -> None:
    """Adds declared columns that the table lacks, null in its rows. Raises TableError for a changed type."""
    existing = {field.name: field for field in table.schema().fields}
    for field in declared:
        if field.name in existing and existing[field.name].type != field.type:
            raise TableError(
                f"{table.table_uri}: the column {field.name} is {existing[field.name].type} there and declared as "
                f"{field.type}: give the column a new name, or drop the table to have it made again"
            )
    missing = [field for field in declared if field.name not in existing]
    if missing:
        from deltalake import Field

        table.alter.add_columns(
            [Field(field.name, field.type, nullable=True, metadata=field.metadata) for field in missing]
        )


def to_arrow(
    frame: "pd.DataFrame", columns: dict[str, ColumnType], table: str, keys: list[str] | None = None
) -> "pa.Table":
    """A DataFrame as an Arrow table of exactly the declared columns and types.

    Raises TableError that names the missing or unconvertible column.
    """
    import pyarrow as pa

    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise TableError(
            f"{table}: the column(s) {', '.join(missing)} are declared but missing; "
            f"there are: {', '.join(map(str, frame.columns))}"
        )
    arrays = []
    schema = arrow_schema(columns, keys)
    for field in schema:
        try:
            arrays.append(pa.Array.from_pandas(frame[field.name], type=field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise TableError(
                f"{table}.{field.name}: declared as {columns[field.name]}, but holds {frame[field.name].dtype}: {error}"
            ) from error
    return pa.Table.from_arrays(arrays, schema=schema)


def upsert(
    path: str, rows: "pa.Table", keys: list[str], commit: CommitRecord, update_if: str | None = None
) -> int:  # fmt: skip
    """Merges rows by keys into an existing table, and answers its version. A repeat changes nothing but the version.

    update_if: SQL over `t` (the row that is there) and `s` (the one that comes); a row of which it is not true stays
    as it is. It is asked of what the commit meets, so that nobody else's write is lost between a look and it.
    """
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    condition = " AND ".join(f"((s.`{key}` = t.`{key}`) OR (s.`{key}` IS NULL AND t.`{key}` IS NULL))" for key in keys)
    for _ in attempts(path):
        table = DeltaTable(path)
        try:
            (
                table.merge(rows, condition, source_alias="s", target_alias="t",
                            commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.to_json()}))
                .when_matched_update_all(update_if).when_not_matched_insert_all().execute()
            )  # fmt: skip
        except CommitFailedError:
            continue
        return table.version()
    raise AssertionError  # attempts raises before it ends


def append_once(
    path: str, rows: "pa.Table", commit: CommitRecord, app_id: str, app_version: int, planned: int | None,
    beside: tuple[str, int | None] | None = None,
) -> bool:  # fmt: skip
    """Appends rows, unless the consumer `app_id` has already committed this version or a later one.

    `planned` is the consumer's mark that the rows were computed after. Answers whether it wrote. The mark is part
    of the commit, so a repeat after a kill appends nothing twice. Raises ServiceError where another run of the same
    consumer has committed since: the rows would overlap, and must be computed again; or where the mark of the
    consumer `beside` is not the given one any more, after which `commit` would not say the truth.
    """
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    table = DeltaTable(path)
    done = table.transaction_version(app_id)
    if done is not None and done >= app_version:
        return False
    overtaken = ServiceError(f"{path}: another run of {app_id} was faster; run this again, it goes on from there")
    if done != planned:
        raise overtaken
    marks = [Transaction(app_id, app_version)]
    if beside is not None:
        other, seen = beside
        if table.transaction_version(other) != seen:
            raise ServiceError(f"{path}: {other} was faster; run this again, it goes on from there")
        marks += [Transaction(other, seen)] if seen is not None else []
    try:
        write_deltalake(
            table, rows, mode="append",
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": commit.to_json()}, app_transactions=marks
            ),
        )  # fmt: skip
    except CommitFailedError as error:
        raise overtaken from error
    return True


def fill_missing(rows: "pa.Table", path: str) -> "pa.Table":
    """Rows with the table's further columns as nulls: those that its declaration no longer has."""
    return with_nulls(rows, further_fields(path, rows.column_names))


def further_fields(path: str, names: Sequence[str]) -> list["pa.Field"]:
    """The columns that a table has beside these."""
    import pyarrow as pa
    from deltalake import DeltaTable

    return [field for field in pa.schema(DeltaTable(path).schema().to_arrow()) if field.name not in names]


def with_nulls(rows: "pa.Table", fields: Sequence["pa.Field"]) -> "pa.Table":
    """Rows with further columns, null in each."""
    import pyarrow as pa

    for field in fields:
        rows = rows.append_column(pa.field(field.name, field.type), pa.nulls(len(rows), field.type))
    return rows


def stream(parts: Iterable["pa.Table"]) -> "pa.RecordBatchReader":
    """Rows that a writer takes part by part, so that they are never all in memory; there is at least one part."""
    import pyarrow as pa

    waiting = iter(parts)
    first = next(waiting)
    batches = (batch for part in chain([first], waiting) for batch in part.to_batches())
    return pa.RecordBatchReader.from_batches(first.schema, batches)


def write_system_rows(
    path: str, table: SystemTable, rows: list[dict[str, Any]], commit: CommitRecord, update_if: str | None = None
) -> int:  # fmt: skip
    """Merges rows of one of Penstock's own tables by its keys; missing columns are null. Answers the version.

    update_if: see `upsert`.
    """
    import pandas as pd

    definition = SYSTEM_TABLES[table]
    keys = list(definition.keys)
    required = [name for name in keys if name not in definition.optional]
    create_if_missing(
        path, {name: Column(type=kind) for name, kind in definition.columns.items()}, keys=required,
        description=definition.description, properties={"penstock.primary_keys": json.dumps(keys)},
    )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(definition.columns)).astype(object)
    frame = frame.where(frame.notna(), None)
    return upsert(path, to_arrow(frame, definition.columns, str(table), required), keys, commit, update_if)


def read(
    path: str,
    *,
    version: int | None = None,
    columns: list[str] | None = None,
    filters: list[tuple[str, str, Any]] | None = None,
) -> "pd.DataFrame":
    """A table (or some columns and rows of it) as a DataFrame; at a version, or now. Timestamps in UTC."""
    return read_arrow(path, version=version, columns=columns, filters=filters).to_pandas()


def read_arrow(
    path: str,
    *,
    version: int | None = None,
    columns: list[str] | None = None,
    filters: list[tuple[str, str, Any]] | None = None,
) -> "pa.Table":
    """As `read`, as an Arrow table.

    Conditions on texts are looked at after reading: deltalake's merges and compactions write texts as string views,
    which Arrow's scanner does not compare with a text (ArrowNotImplementedError, where a file holds several values).
    """
    from pyarrow.parquet import filters_to_expression

    dataset = open_dataset(path, version)
    texts = [part for part in filters or () if _is_text(dataset.schema.field(part[0]).type)]
    others = [part for part in filters or () if part not in texts]
    wanted = dataset.schema.names if columns is None else list(columns)
    rows = dataset.to_table(
        columns=list(dict.fromkeys([*wanted, *(part[0] for part in texts)])),
        filter=filters_to_expression(others) if others else None,
    )
    return (rows.filter(filters_to_expression(texts)) if texts else rows).select(wanted)


def _is_text(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def exact_frame(rows: "pa.Table") -> "pd.DataFrame":
    """Rows as a DataFrame that says what they say: bigints with nulls as Int64, where floats would round them."""
    import pandas as pd
    import pyarrow as pa

    frame = rows.to_pandas()
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_int64(column.type) and column.null_count:
            frame[name] = column.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def open_dataset(path: str, version: int | None) -> "Dataset":
    """A table at a version (or now) as an Arrow dataset: its rows are read when they are asked for, file by file."""
    from deltalake import DeltaTable

    return DeltaTable(path, version=version).to_pyarrow_dataset(filesystem=_local_files(path))


def read_parts(path: str, version: int | None, columns: list[str] | None = None) -> Iterator["pa.Table"]:
    """A table's rows in parts that fit into memory, in the order of `read_arrow`; first an empty one of its columns."""
    import pyarrow as pa

    dataset = open_dataset(path, version)
    names = dataset.schema.names if columns is None else columns
    yield pa.schema([dataset.schema.field(name) for name in names]).empty_table()
    for batch in dataset.to_batches(columns=names):
        yield pa.Table.from_batches([batch])


def _local_files(path: str) -> "FileSystem | None":
    """Arrow's own filesystem for a table on this machine; None for others.

    deltalake's calls back into Python from Arrow's threads: a process that ends soon after a read of several files
    aborts then ("terminate called without an active exception", one exit in five).
    """
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    return None if "://" in path else SubTreeFileSystem(path, LocalFileSystem())


def version(path: str) -> int:
    """The newest version of a table."""
    from deltalake import DeltaTable

    return DeltaTable(path).version()


def newest_version(path: str) -> int | None:
    """The newest version of a table; None where there is no table yet."""
    from deltalake import DeltaTable

    return DeltaTable(path).version() if DeltaTable.is_deltatable(path) else None


def as_utc(value: datetime) -> "pd.Timestamp":
    """A moment as a UTC pandas Timestamp."""
    import pandas as pd

    stamp = pd.Timestamp(value)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
