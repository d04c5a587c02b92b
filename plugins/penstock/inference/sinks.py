"""Where predictions go beside their Delta table: Parquet or CSV files, tables over JDBC.

A file is named by its window and written whole or not at all, so a repeat replaces it by itself.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError, SpecError
from penstock.inference.batch import ScoredBatch
from penstock.spec.project import Sink
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def publish(workspace: Workspace, project_name: str, model_name: str, batch: ScoredBatch) -> dict[str, Any]:
    """Hands one batch of predictions to every declared sink. Answers the batch and where it went."""
    from penstock.clock import parse_as_of
    from penstock.lakehouse.small_tables import read_arrow

    model = workspace.project(project_name).model(model_name)
    written = []
    if model.inference.sinks:
        path = workspace.addresses.readable(batch.table)
        rows = read_arrow(path, version=batch.version, filters=[("as_of", "=", parse_as_of(batch.as_of))])
        written = [_WRITERS[sink.kind](sink, rows, model_name, batch) for sink in model.inference.sinks]
    return {"table": batch.table, "version": batch.version, "rows": batch.rows, "sinks": written}


def _file(sink: Sink, model: str, batch: ScoredBatch, suffix: str) -> tuple[Path, Path]:
    if sink.path is None:
        raise SpecError(f"the {sink.kind} sink of {batch.table} has no path")
    stamp = batch.as_of.replace(":", "").replace("-", "")
    target = Path(sink.path) / f"{model}_{stamp}.{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    return target, target.with_name(f".{target.name}.partial")


def _write_parquet(sink: Sink, rows: "pa.Table", model: str, batch: ScoredBatch) -> str:
    import pyarrow.parquet as parquet

    target, partial = _file(sink, model, batch, "parquet")
    parquet.write_table(rows, partial)
    partial.replace(target)
    return str(target)


def _write_csv(sink: Sink, rows: "pa.Table", model: str, batch: ScoredBatch) -> str:
    import pyarrow.csv as csv

    target, partial = _file(sink, model, batch, "csv")
    csv.write_csv(rows, partial)
    partial.replace(target)
    return str(target)


def _write_database(sink: Sink, rows: "pa.Table", model: str, batch: ScoredBatch) -> str:  # noqa: ARG001
    import pandas as pd
    import sqlalchemy as sa

    if sink.url is None or sink.table is None:
        raise SpecError(f"the jdbc sink of {batch.table} needs url and table")
    engine = sa.create_engine(sink.url.removeprefix("jdbc:"))
    try:
        with engine.begin() as connection:
            if sa.inspect(connection).has_table(sink.table):
                stale = sa.Table(sink.table, sa.MetaData(), autoload_with=connection)
                moment = pd.Timestamp(batch.as_of).tz_convert("UTC").tz_localize(None).to_pydatetime()
                connection.execute(stale.delete().where(stale.c.as_of == moment))
            frame = rows.to_pandas()
            for name in frame.select_dtypes("datetimetz"):
                frame[name] = frame[name].dt.tz_localize(None)
            frame.to_sql(sink.table, connection, if_exists="append", index=False, chunksize=10_000)
    except sa.exc.SQLAlchemyError as error:
        where = engine.url.set(query={}).render_as_string(hide_password=True)
        raise ServiceError(f"the sink {sink.table} at {where}: {type(error).__name__}") from error
    finally:
        engine.dispose()
    return sink.table


_WRITERS = {"parquet": _write_parquet, "csv": _write_csv, "jdbc": _write_database}
