"""feature_refresh keeps online tables in step with what Spark merges."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import GateError
from penstock.features.known import KNOWN_AT
from penstock.online.compare import compare_online
from penstock.online.reading import OnlineFeatures
from penstock.online.store import open_store
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment, refresh, rows


@pytest.fixture
def online(tmp_path: Path, make_workspace: Callable[..., Workspace]) -> Workspace:
    """The second project with its daily table online."""
    root = copy_root(tmp_path)
    file = root / "include/projects/wind_parks/project.yaml"
    before = "    expectations: expectations/turbine_daily.yaml\n"
    file.write_text(file.read_text().replace(before, f"{before}    online: {{ttl: 5d}}\n"))
    return make_workspace(root)


def test_every_refresh_publishes_what_it_merged(online: Workspace) -> None:
    refresh(online, "2024-01-10")
    for as_of in ("2024-01-10T06:00", "2024-01-14"):
        said = dict(refresh(online, as_of))
        assert "incremental" in said["publish_online"] or "nothing to do" in said["publish_online"], said
        assert compare_online(online, PROJECT, "turbine_daily", moment(as_of)).passed
    newest = rows(online, "turbine_daily", ["event_time"]).drop(columns=KNOWN_AT).iloc[-1]
    key = {"park": newest["park"], "turbine": newest["turbine"]}
    with OnlineFeatures(online, PROJECT) as features:
        found = features.rows({"turbine_daily": [key]}, moment("2024-01-14"))["turbine_daily"][0]
    assert found == {**newest.to_dict(), "event_time": newest["event_time"].to_pydatetime()}


def test_a_store_that_was_tampered_with_fails_the_refresh_by_name(online: Workspace) -> None:
    import sqlite3

    refresh(online, "2024-01-10")
    path = online.environment.online_stores["default"].path
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute(
            'DELETE FROM "wind_parks.turbine_daily" WHERE key = (SELECT min(key) FROM "wind_parks.turbine_daily")'
        )
    with pytest.raises(GateError, match="turbine_daily.*1 keys are not online"):
        refresh(online, "2024-01-10T01:00")
    with open_store(online.environment, "default") as store:
        store.remove(f"{PROJECT}.turbine_daily")
    refresh(online, "2024-01-10T02:00")
