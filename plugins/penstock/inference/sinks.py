"""Where predictions go beside their Delta table: Parquet or CSV files, here or in an object store; databases.

A file is named by its window and is there whole or not at all, so a repeat replaces it by itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError, SpecError, TableError
from penstock.inference.batch import ScoredBatch
from penstock.spec.databases import AddressError, database_url
from penstock.spec.project import Sink
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa


@dataclass(frozen=True)
class Place:
    """A declared sink, and where its declaration stands."""

    sink: Sink
    declared: str

    def __str__(self) -> str:
        return self.declared


def publish(workspace: Workspace, project_name: str, model_name: str, batch: ScoredBatch) -> dict[str, Any]:
    """Hands one batch of predictions to every declared sink. Answers the batch and where it went.

    Raises SpecError for a sink that cannot be written as it is declared, ServiceError where one does not answer.
    """
    from penstock.clock import parse_as_of
    from penstock.lakehouse.small_tables import read_arrow

    project = workspace.project(project_name)
    written = []
    if sinks := project.model(model_name).inference.sinks:
        path = workspace.addresses.readable(batch.table)
        rows = read_arrow(path, version=batch.version, filters=[("as_of", "=", parse_as_of(batch.as_of))])
        declared = f"{project.folder / 'project.yaml'}: models.{model_name}.inference.sinks"
        written = [
            write_sink(Place(sink, f"{declared}[{index}]"), rows, model_name, batch.as_of)
            for index, sink in enumerate(sinks)
        ]
    return {"table": batch.table, "version": batch.version, "rows": batch.rows, "sinks": written}


def write_sink(place: Place, rows: "pa.Table", model: str, as_of: str) -> str:
    """Writes the predictions of one batch to one sink; answers the file or the table. Raises as `publish` does."""
    if place.sink.kind == "jdbc":
        return _write_database(place, rows, as_of)
    return _write_file(place, rows, f"{model}_{as_of.replace(':', '').replace('-', '')}.{place.sink.kind}")


def _write_file(place: Place, rows: "pa.Table", name: str) -> str:
    import pyarrow as pa
    from pyarrow import csv, fs, parquet

    folder = place.sink.path
    if folder is None:
        raise SpecError(f"{place}: a {place.sink.kind} sink needs a path")
    content = pa.BufferOutputStream()
    (parquet.write_table if place.sink.kind == "parquet" else csv.write_csv)(rows, content)
    if "://" not in folder:
        return _write_here(Path(folder) / name, content.getvalue())
    try:
        store, inside = fs.FileSystem.from_uri(folder)
        if isinstance(store, fs.LocalFileSystem):
            return _write_here(Path(inside) / name, content.getvalue())
        with store.open_output_stream(f"{inside.rstrip('/')}/{name}") as stream:  # an object appears once it is whole
            stream.write(content.getvalue())
    except pa.ArrowInvalid:  # its text repeats the address
        what = f"{_shown(folder)} is no address of an object store"
        raise SpecError(f"{place}.path: {what}; write s3://bucket/folder, say") from None
    except OSError as error:
        raise ServiceError(f"{place}: {_shown(folder)} cannot be written: {str(error)[:300]}") from error
    return f"{_shown(folder).rstrip('/')}/{name}"


def _shown(address: str) -> str:
    """An address without the options and the login that it may hold."""
    return re.sub(r"//[^/@]*:[^/@]*@", "//***@", address.partition("?")[0])


def _write_here(target: Path, content: "pa.Buffer") -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    partial.replace(target)
    return str(target)


def _write_database(place: Place, rows: "pa.Table", as_of: str) -> str:
    import sqlalchemy as sa

    sink = place.sink
    if sink.url is None or sink.table is None:
        raise SpecError(f"{place}: a jdbc sink needs url and table")
    try:
        engine = sa.create_engine(database_url(sink.url))
    except AddressError as error:
        raise SpecError(f"{place}.url: {error}; {error.remedy}") from error
    except (sa.exc.ArgumentError, TypeError) as error:  # an option that the dialect does not know
        raise SpecError(f"{place}.url: {type(error).__name__}: correct what stands behind its `?`") from error
    try:
        with engine.begin() as connection:
            _replace_batch(connection, sink.table, rows, as_of)
    except sa.exc.SQLAlchemyError as error:
        where = engine.url.set(query={}).render_as_string(hide_password=True)
        raise ServiceError(f"{place}: the table {sink.table} at {where}: {_first_line(error)}") from error
    finally:
        engine.dispose()
    return sink.table


def _first_line(error: "sa.exc.SQLAlchemyError") -> str:
    """What the database says; not the details below it, which repeat a row's values."""
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}"


def _replace_batch(connection: "sa.Connection", table: str, rows: "pa.Table", as_of: str) -> None:
    """The rows of this as_of are these; what other batches wrote stays."""
    import pandas as pd
    import sqlalchemy as sa

    from penstock.lakehouse.small_tables import exact_frame

    moment = pd.Timestamp(as_of).tz_convert("UTC").to_pydatetime()
    with_zone: set[str] = set()  # columns that a table made by somebody else declares so
    schema, _, name = table.rpartition(".")
    if sa.inspect(connection).has_table(name, schema or None):
        there = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)
        if "as_of" not in there.c:
            raise TableError(f"{table} has no column as_of, so it is no table of predictions: name another table")
        with_zone = {column.name for column in there.c if getattr(column.type, "timezone", False)}
        stale = moment if "as_of" in with_zone else moment.replace(tzinfo=None)
        connection.execute(there.delete().where(there.c.as_of == stale))
    frame = exact_frame(rows)
    for column in frame.select_dtypes("datetimetz"):
        if column not in with_zone:
            frame[column] = frame[column].dt.tz_convert("UTC").dt.tz_localize(None)
    frame.to_sql(name, connection, schema=schema or None, if_exists="append", index=False, chunksize=10_000)
