"""Two runs that overlap: the slower one says so and writes nothing, and columns may be added later."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.clock import to_micros
from penstock.errors import ServiceError, TableError
from penstock.features.kept_entities import _write_here
from penstock.features.merge import merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.lakehouse.records import record, version_of
from penstock.lakehouse.small_tables import append_once, create_if_missing, fill_missing, read, to_arrow
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment, refresh, rows

COLUMNS = {"key": Column(type=ColumnType.INT), "value": Column(type=ColumnType.DOUBLE)}


def test_an_append_that_was_planned_before_another_commit_is_refused(tmp_path: Path) -> None:
    path, marks = str(tmp_path / "table"), [to_micros(moment(f"2024-01-0{day}")) for day in (1, 2, 3)]
    create_if_missing(path, COLUMNS, keys=["key"], description="d")
    batch = _rows(1)
    assert append_once(path, batch, record(moment("2024-01-01")), "consumer", marks[0], None)
    assert append_once(path, batch, record(moment("2024-01-02")), "consumer", marks[1], marks[0])
    with pytest.raises(ServiceError, match="run this again"):
        append_once(path, batch, record(moment("2024-01-03")), "consumer", marks[2], marks[0])
    assert not append_once(path, batch, record(moment("2024-01-01")), "consumer", marks[0], None)
    assert len(read(path)) == 2


def test_entity_rows_of_one_name_that_are_kept_at_once_are_versions_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deltalake

    path, write = str(tmp_path / "kept"), deltalake.write_deltalake
    first, mine, others = (replace(record(moment("2024-01-01")), batch=name) for name in ("first", "mine", "others"))
    _write_here(path, _rows(1), first, "shop.kept")

    quicker = [others]

    def overtaken(where: str, *words: object, **named: object) -> None:
        opened = deltalake.DeltaTable(where)
        if quicker:
            _write_here(path, _rows(2), quicker.pop(), "shop.kept")
        write(opened, *words, **named)

    monkeypatch.setattr(deltalake, "write_deltalake", overtaken)
    _write_here(path, _rows(3), mine, "shop.kept")
    assert read(path, version=version_of(path, mine))["key"].tolist() == [3]
    assert read(path, version=version_of(path, others))["key"].tolist() == [2]


def test_a_declared_column_that_is_new_is_added_and_one_that_is_gone_becomes_null(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    create_if_missing(path, COLUMNS, keys=["key"], description="d")
    append_once(path, _rows(1), record(moment("2024-01-01")), "consumer", 1, None)
    more = {"key": COLUMNS["key"], "colour": Column(type=ColumnType.STRING)}
    create_if_missing(path, more, keys=["key"], description="d")
    import pandas as pd

    batch = to_arrow(pd.DataFrame({"key": [2], "colour": ["red"]}), {name: c.type for name, c in more.items()}, "t")
    append_once(path, fill_missing(batch, path), record(moment("2024-01-02")), "consumer", 2, 1)
    found = read(path).set_index("key")
    assert found["colour"].to_dict() == {1: None, 2: "red"}
    assert found["value"].isna().to_dict() == {1: False, 2: True}


def test_a_changed_type_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    create_if_missing(path, COLUMNS, keys=["key"], description="d")
    with pytest.raises(TableError, match="value.*new name"):
        create_if_missing(path, {**COLUMNS, "value": Column(type=ColumnType.STRING)}, keys=["key"], description="d")


def test_the_slower_of_two_refreshes_fails_and_a_later_one_mends_it(
    make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    workspace = make_workspace(copy_root(tmp_path))
    refresh(workspace, "2024-01-05")
    from penstock.features.landing import land_source

    land_source(workspace, PROJECT, "yields", moment("2024-01-08"))
    slow = validate_batch(workspace, stage_table(workspace, PROJECT, "turbine_daily", moment("2024-01-08")))
    quick = validate_batch(workspace, stage_table(workspace, PROJECT, "turbine_daily", moment("2024-01-07")))
    merge_batch(workspace, quick)
    with pytest.raises(ServiceError, match="run the refresh again"):
        merge_batch(workspace, slow)
    refresh(workspace, "2024-01-08")
    daily = rows(workspace, "turbine_daily", ["park", "turbine", "event_time"])
    assert not daily.duplicated(["park", "turbine", "event_time"]).any()
    assert daily["event_time"].max() == pd_timestamp("2024-01-08")


def pd_timestamp(text: str) -> object:
    import pandas as pd

    return pd.Timestamp(text, tz="UTC")


def _rows(key: int) -> object:
    import pandas as pd

    return to_arrow(pd.DataFrame({"key": [key], "value": [0.5]}), {n: c.type for n, c in COLUMNS.items()}, "t", ["key"])
