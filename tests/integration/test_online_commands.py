"""`penstock online` and `penstock maintain --dry-run`, as a person calls them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import arrow_schema, create_if_missing, upsert
from penstock.workspace import Workspace
from tests.integration.online_shop import at
from tests.integration.refreshing import PROJECT, copy_root

TABLE = f"{PROJECT}.turbine_daily"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The second project in a state folder of its own, its daily table online and filled for one turbine."""
    root = copy_root(tmp_path)
    file = root / "include/projects/wind_parks/project.yaml"
    before = "    expectations: expectations/turbine_daily.yaml\n"
    file.write_text(file.read_text().replace(before, f"{before}    online: true\n"))
    monkeypatch.setenv("PENSTOCK_ROOT", str(root))
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PENSTOCK_LAKEHOUSE_ROOT", str(tmp_path / "lakehouse"))
    found = Workspace.open("dev")
    spec = found.project(PROJECT).spec.feature_tables["turbine_daily"]
    path = found.addresses.writable(TABLE)
    create_if_missing(path, spec.columns, keys=spec.key_columns, description="d")
    rows = [{"park": "north", "turbine": 1, "event_time": at(1), "mean_energy": 2.5, "slots": None}]
    schema = arrow_schema({name: column.type for name, column in spec.columns.items()}, spec.key_columns)
    upsert(path, pa.Table.from_pylist(rows, schema), spec.key_columns, record(at(1)))
    return found


def call(*words: str) -> tuple[int, str]:
    """The exit code and everything that a command printed."""
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


@pytest.mark.usefixtures("workspace")
def test_publishing_comparing_and_reading_by_hand() -> None:
    code, said = call("online", "get", TABLE, "park=north", "turbine=1")
    assert code == 1
    assert "has not been published yet" in said.replace("\n", " ")
    assert call("online", "compare", PROJECT)[0] == 1
    assert call("online", "publish", PROJECT)[0] == 0
    assert call("online", "compare", TABLE)[0] == 0
    code, said = call("online", "get", TABLE, "park=north", "turbine=1")
    assert code == 0
    assert json.loads(said) == {
        "park": "north", "turbine": 1, "event_time": "2024-01-01T00:00:00+00:00", "mean_energy": 2.5, "slots": None,
    }  # fmt: skip
    assert call("online", "get", TABLE, "park=north", "turbine=2") == (0, "null\n")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["online", "get", TABLE, "park=north", "turbine=one"], "turbine is declared as int, but given as 'one'"),
        (["online", "get", TABLE, "turbne=1"], "write COLUMN=VALUE"),
        (["online", "publish", f"{PROJECT}.park_wind"], "write `online: true`"),
        (["online", "publish", f"{PROJECT}.nothing"], "no feature table 'nothing'"),
        (["maintain", PROJECT, "--retention", "1h"], "allow_short_retention"),
        (["maintain", PROJECT, "--retention", "soon"], "is no duration"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str) -> None:
    code, said = call(*words)
    assert code == 1
    assert message in said.replace("\n", " ")
