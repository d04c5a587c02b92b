"""Folders of tables: what is set aside is the same table elsewhere, and staging is swept by its newest file."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.features.staging import new_staging
from penstock.lakehouse.removal import set_aside
from tests.integration.online_shop import PROJECT, open_shop

OLD = (datetime.now(UTC) - timedelta(days=3)).timestamp()


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_table_that_is_set_aside_is_the_same_table_there(tmp_path: Path, scheme: str) -> None:
    """What has a scheme is copied and removed: object stores move no folders."""
    path, target = f"{scheme}{tmp_path}/shop/ratings", f"{scheme}{tmp_path}/shop/_dropped/ratings_1/ratings"
    for value in (1, 2):
        write_deltalake(path, pa.table({"value": [value]}), mode="append")
    assert set_aside(path, target)
    assert not DeltaTable.is_deltatable(path)
    moved = DeltaTable(target)
    assert (moved.version(), sorted(moved.to_pyarrow_table()["value"].to_pylist())) == (1, [1, 2])
    assert not set_aside(path, target)


def test_a_batch_that_is_still_being_staged_is_not_swept(tmp_path: Path) -> None:
    workspace = open_shop(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "online.sqlite")})
    staged = {}
    for name in ("left", "written"):
        _, path = new_staging(workspace, PROJECT, "customers")
        write_deltalake(path, pa.table({"value": [1]}))
        staged[name] = Path(path)
        for place in (*Path(path).rglob("*"), Path(path)):
            os.utime(place, (OLD, OLD))
    (staged["written"] / "_delta_log" / "00000000000000000000.json").touch()  # the folder itself keeps its time
    new_staging(workspace, PROJECT, "customers")
    assert {name for name, path in staged.items() if path.exists()} == {"written"}
