"""A project of features only, whose raw table others fill: its files, and what they would write."""

from pathlib import Path

import pandas as pd
from deltalake import write_deltalake

PROJECT = """
name: spot_prices
description: Prices that another team's job writes. Features only.
owner: market@example.com
sources:
  prices:
    description: An hourly price.
    primary_keys: [area, hour]
    available_at: known_at
    watch: 1s
    columns: {area: string, hour: timestamp, price: double, known_at: timestamp}
feature_tables:
  price_daily:
    description: The mean price of a UTC day.
    primary_keys: [area]
    inputs: [prices]
    sql: features/price_daily.sql
    columns: {area: string, event_time: timestamp, mean_price: double}
"""
DAILY = """
SELECT area, date_trunc('DAY', known_at) + INTERVAL 1 DAY AS event_time, avg(price) AS mean_price
FROM prices GROUP BY 1, 2
"""


def add_project(root: Path) -> Path:
    """Adds the project to a root's include/. Answers its folder."""
    folder = root / "include/projects/spot_prices"
    (folder / "features").mkdir(parents=True)
    (folder / "features/price_daily.sql").write_text(DAILY)
    (folder / "project.yaml").write_text(PROJECT)
    return folder


def write_day(path: str, day: str, price: float) -> None:
    """A day of prices, as another team's job would write it."""
    hours = pd.date_range(day, periods=24, freq="h", tz="UTC").as_unit("us")
    rows = pd.DataFrame({"area": "north", "hour": hours, "price": price, "known_at": hours})
    write_deltalake(path, rows, mode="append")
