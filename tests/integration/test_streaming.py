"""Continuous refresh by Structured Streaming: the same tables as by any other way, and clear ends."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.errors import NothingToDo, ServiceError
from penstock.streaming import refresh_continuously
from penstock.workspace import Workspace
from tests.integration.refreshing import copy_root
from tests.integration.spot_prices import add_project, write_day

PROJECT = "spot_prices"


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Workspace:
    root = copy_root(tmp_path)
    add_project(root)
    return make_workspace(root)


def means(workspace: Workspace) -> list[float]:
    """The mean price of each day so far."""
    path = workspace.addresses.find(f"{PROJECT}.price_daily")
    if path is None:
        return []
    return DeltaTable(path).to_pyarrow_table().to_pandas().sort_values("event_time")["mean_price"].tolist()


def test_available_now_refreshes_what_is_there_and_ends(workspace: Workspace) -> None:
    with pytest.raises(NothingToDo, match=r"no raw table to stream from.*prices"):
        refresh_continuously(workspace, PROJECT, available_now=True)
    raw = workspace.addresses.writable(f"{PROJECT}.prices")
    write_day(raw, "2024-05-01", 40.0)
    write_day(raw, "2024-05-02", 60.0)
    assert refresh_continuously(workspace, PROJECT, available_now=True).batches == 1
    assert means(workspace) == [40.0, 60.0]
    assert refresh_continuously(workspace, PROJECT, available_now=True).batches == 0
    write_day(raw, "2024-05-01T12:00", 100.0)  # late: half of the second day and of the first
    assert refresh_continuously(workspace, PROJECT, available_now=True).batches == 1
    assert means(workspace) == [60.0, 220 / 3]


def test_it_goes_on_while_rows_arrive(workspace: Workspace) -> None:
    raw = workspace.addresses.writable(f"{PROJECT}.prices")
    write_day(raw, "2024-05-01", 40.0)
    said: list[str] = []
    arguments = {"every": timedelta(seconds=1), "lasting": timedelta(seconds=40), "report": said.append}
    stream = threading.Thread(target=refresh_continuously, args=(workspace, PROJECT), kwargs=arguments)
    stream.start()
    try:
        _wait(lambda: means(workspace) == [40.0])
        write_day(raw, "2024-05-02", 60.0)
        _wait(lambda: means(workspace) == [40.0, 60.0])
    finally:
        stream.join()
    assert [line.partition(" refreshed in")[0] for line in said] == ["micro-batch 0", "micro-batch 1"]


def test_a_refresh_that_fails_ends_the_stream_with_its_message_and_it_goes_on_after_the_cause_is_mended(
    workspace: Workspace,
) -> None:
    raw = workspace.addresses.writable(f"{PROJECT}.prices")
    write_day(raw, "2024-05-01", 40.0)
    query = workspace.project(PROJECT).folder / "features/price_daily.sql"
    good = query.read_text()
    query.write_text(good.replace("avg(price)", "avg(prize)"))
    with pytest.raises(ServiceError, match=r"spot_prices: the stream stopped: .*prize"):
        refresh_continuously(workspace, PROJECT, available_now=True)
    query.write_text(good)
    assert refresh_continuously(workspace, PROJECT, available_now=True).batches == 1
    assert means(workspace) == [40.0]


def test_a_raw_table_that_gains_a_column_is_streamed_on(workspace: Workspace) -> None:
    raw = workspace.addresses.writable(f"{PROJECT}.prices")
    write_day(raw, "2024-05-01", 40.0)
    refresh_continuously(workspace, PROJECT, available_now=True)
    hours = pd.date_range("2024-05-02", periods=24, freq="h", tz="UTC").as_unit("us")
    rows = pd.DataFrame({"area": "north", "hour": hours, "price": 60.0, "known_at": hours, "currency": "EUR"})
    write_deltalake(raw, rows, mode="append", schema_mode="merge")
    refresh_continuously(workspace, PROJECT, available_now=True)
    assert means(workspace) == [40.0, 60.0]


def test_a_stream_goes_on_after_a_raw_table_lost_a_column(workspace: Workspace) -> None:
    raw = workspace.addresses.writable(f"{PROJECT}.prices")
    hours = pd.date_range("2024-05-01", periods=24, freq="h", tz="UTC").as_unit("us")
    rows = pd.DataFrame({"area": "north", "hour": hours, "price": 40.0, "known_at": hours, "currency": "EUR"})
    write_deltalake(raw, rows)
    refresh_continuously(workspace, PROJECT, available_now=True)
    assert means(workspace) == [40.0]
    without = rows.drop(columns="currency").assign(price=50.0)  # nothing that is declared reads it
    write_deltalake(raw, without, mode="overwrite", schema_mode="overwrite")
    refresh_continuously(workspace, PROJECT, available_now=True)
    assert means(workspace) == [50.0]


def _wait(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.5)
