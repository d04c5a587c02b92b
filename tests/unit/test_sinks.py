"""Sinks: files whole or not at all, databases without repeats, and errors that name the place and hide logins."""

import sqlite3
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from penstock.errors import PenstockError, ServiceError, SpecError, TableError
from penstock.inference.sinks import Place, write_sink
from penstock.spec.databases import database_url
from penstock.spec.project import Sink
from tests.unit.object_store import object_store
from tests.unit.spec_project import write_root

DECLARED = "project.yaml: models.late.inference.sinks[0]"
AS_OF = "2024-01-01T06:00:00Z"


def batch(as_of: str, predictions: list[float]) -> pa.Table:
    moment = datetime.fromisoformat(as_of).astimezone(UTC)
    times = pa.array([moment] * len(predictions), pa.timestamp("us", "UTC"))
    return pa.table({"prediction": predictions, "as_of": times})


def write(rows: pa.Table, as_of: str = AS_OF, **sink: str) -> str:
    return write_sink(Place(Sink.model_validate(sink), DECLARED), rows, "late", as_of)


@pytest.mark.parametrize("address", ["{folder}/out", "file://{folder}/out"])
def test_a_file_is_named_by_its_window_and_a_repeat_replaces_it(tmp_path: Path, address: str) -> None:
    folder = address.format(folder=tmp_path)
    for predictions in ([0.1, 0.2], [0.3]):
        csv = write(batch(AS_OF, predictions), kind="csv", path=folder)
        parquet = write(batch(AS_OF, predictions), kind="parquet", path=folder)
        assert list(pd.read_csv(csv)["prediction"]) == list(pd.read_parquet(parquet)["prediction"]) == predictions
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["late_20240101T060000Z.csv", "late_20240101T060000Z.parquet"]


def test_an_object_store_gets_whole_objects_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "ann", "SECRET_ACCESS_KEY": "secret", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with object_store() as store:
        for predictions in ([0.1, 0.2], [0.3]):
            sink = {"kind": "parquet", "path": store.address("exports/late")}
            assert write(batch(AS_OF, predictions), **sink) == "s3://exports/late/late_20240101T060000Z.parquet"
            (content,) = store.objects.values()
            assert list(pd.read_parquet(BytesIO(content))["prediction"]) == predictions
        assert list(store.objects) == ["/exports/late/late_20240101T060000Z.parquet"]
        store.closed = True
        with pytest.raises(ServiceError, match=r"sinks\[0\]: s3://exports/late cannot be written: .*no right to write"):
            write(batch("2024-01-02T06:00:00Z", [0.4]), "2024-01-02T06:00:00Z", **sink)
        assert len(store.objects) == 1


def test_a_database_holds_each_batch_once(tmp_path: Path) -> None:
    sink = {"kind": "jdbc", "url": f"jdbc:sqlite:///{tmp_path}/scores.db", "table": "late"}
    write(batch(AS_OF, [0.1, 0.2]), **sink)
    later = "2024-01-02T06:00:00Z"
    for _ in range(2):
        assert write(batch(later, [0.3]), later, **sink) == "late"
    write(batch(AS_OF, [0.4]), **sink)  # the first one again
    with sqlite3.connect(tmp_path / "scores.db") as connection:
        found = connection.execute("SELECT prediction, as_of FROM late ORDER BY as_of").fetchall()
    assert found == [(0.4, "2024-01-01 06:00:00.000000"), (0.3, "2024-01-02 06:00:00.000000")]


def test_a_table_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "scores.db") as connection:
        connection.execute("CREATE TABLE late (prediction FLOAT)")
    with pytest.raises(TableError, match="late has no column as_of.*name another table"):
        write(batch(AS_OF, [0.1]), kind="jdbc", url=f"jdbc:sqlite:///{tmp_path}/scores.db", table="late")


@pytest.mark.parametrize(
    ("sink", "kind", "message"),
    [
        ({"kind": "csv", "path": "nfs://ann:secret@host/x"}, SpecError, r"sinks\[0\]\.path: nfs://\*\*\*@host/x is"),
        ({"kind": "jdbc", "url": "jdbc:mysql://ann:secret@db/x", "table": "x"}, SpecError, r"sinks\[0\]\.url: mysql"),
        ({"kind": "jdbc", "url": "jdbc:redshift://ann:secret@db/x", "table": "x"}, SpecError, "knows no database"),
        ({"kind": "jdbc", "url": "jdbc:postgresql://ann:secret@x:y/z", "table": "x"}, SpecError, "is no address of"),
        (
            {"kind": "jdbc", "url": "jdbc:postgresql://ann:secret@localhost:1/x", "table": "late"},
            ServiceError, r"the table late at postgresql\+psycopg2://ann:\*\*\*@localhost:1/x: OperationalError",
        ),
    ],
)  # fmt: skip
def test_a_sink_that_cannot_be_written_says_where_and_hides_the_login(
    sink: dict[str, str], kind: type[PenstockError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        write(batch(AS_OF, [0.1]), **sink)
    assert "secret" not in str(caught.value)


def test_an_address_without_a_driver_takes_the_one_that_is_installed() -> None:
    assert database_url("jdbc:postgresql://ann@db/scores").drivername == "postgresql+psycopg2"
    assert database_url("jdbc:sqlite:///scores.db").drivername == "sqlite"


def test_an_address_with_a_variable_is_judged_only_where_the_variable_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_root(tmp_path)
    sink = '{kind: jdbc, url: "jdbc:${SCORES_URL}", table: back}'
    root.edit("project.yaml", "{kind: parquet, path: /data/predictions}", sink)
    monkeypatch.delenv("SCORES_URL", raising=False)
    assert [fault.message for fault in root.validate().faults] == ["the environment variable SCORES_URL is not set"]
    monkeypatch.setenv("SCORES_URL", "postgresql://ann:secret@db/scores")
    assert root.validate().faults == ()
    monkeypatch.setenv("SCORES_URL", "mysql://ann:secret@db/scores")
    (fault,) = root.validate().faults
    assert "needs the driver MySQLdb" in fault.message
    assert "secret" not in fault.message + fault.remedy
