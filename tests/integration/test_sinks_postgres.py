"""A sink that is a real PostgreSQL, whose own time zone is not UTC."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pyarrow as pa
import pytest

from penstock.errors import ServiceError
from penstock.inference.sinks import Place, write_sink
from penstock.spec.project import Sink
from tests.integration.conftest import free_port

AS_OF, LATER = "2024-07-01T06:00:00Z", "2024-07-02T06:00:00Z"
PASSWORD = "not-so-secret"
PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's, which does not put them on the PATH


class PostgresServer:
    """PostgreSQL on a free port of the loopback, as the user that Debian made for it: it refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self._as = {"user": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(folder, "postgres")
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call("initdb", "-D", f"{folder}/data", "-U", "ann", "-A", "scram-sha-256", f"--pwfile={secret}")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {folder} -c timezone=America/New_York"
        self._call("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", f"{self._folder}/data", "-w", "-m", "fast", "stop")

    def query(self, statement: str) -> list[tuple]:
        """Runs one statement as a client whose zone is UTC."""
        login = f"host=127.0.0.1 port={self.port} user=ann password={PASSWORD} dbname=postgres"
        with psycopg2.connect(f"{login} options='-c timezone=UTC'") as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _call(self, program: str, *arguments: str) -> None:
        command = [PROGRAMS / program, *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        found = PostgresServer(Path(folder))
        yield found
        found.stop()


def write(server: PostgresServer, table: str, as_of: str, predictions: list[float], **more: list | pa.Array) -> str:
    moment = datetime.fromisoformat(as_of).astimezone(UTC)
    times = pa.array([moment] * len(predictions), pa.timestamp("us", "UTC"))
    rows = pa.table({"prediction": predictions, "as_of": times, **more})
    address = f"jdbc:postgresql://ann:{PASSWORD}@127.0.0.1:{server.port}/postgres"
    return write_sink(Place(Sink(kind="jdbc", url=address, table=table), "sinks[0]"), rows, "late", as_of)


@pytest.mark.parametrize(
    ("table", "before"),
    [
        ("made_by_the_sink", ""),
        ("scores.late", "CREATE SCHEMA scores"),
        ("with_zone", "CREATE TABLE with_zone (prediction float8, as_of timestamptz)"),
        ("without_zone", "CREATE TABLE without_zone (prediction float8, as_of timestamp)"),
    ],
)
def test_a_batch_is_there_once_at_its_moment(server: PostgresServer, table: str, before: str) -> None:
    if before:
        server.query(before)
    write(server, table, AS_OF, [0.1, 0.2])
    for predictions in ([0.3], [0.4]):  # the second is the first again
        assert write(server, table, LATER, predictions) == table
    found = server.query(f"SELECT prediction, as_of::timestamptz FROM {table} ORDER BY prediction")
    times = [datetime.fromisoformat(as_of) for as_of in (AS_OF, AS_OF, LATER)]
    assert found == list(zip([0.1, 0.2, 0.4], times, strict=True))


def test_large_numbers_among_nulls_are_not_rounded(server: PostgresServer) -> None:
    write(server, "large", AS_OF, [0.1, 0.2], customer=pa.array([2**53 + 1, None]))
    found = server.query("SELECT customer, pg_typeof(customer)::text FROM large ORDER BY prediction")
    assert found == [(2**53 + 1, "bigint"), (None, "bigint")]


def test_what_the_database_refuses_it_says_and_the_former_batch_stays(server: PostgresServer) -> None:
    server.query("CREATE TABLE narrow (prediction float8 CHECK (prediction < 1), as_of timestamp)")
    write(server, "narrow", AS_OF, [0.1])
    with pytest.raises(ServiceError, match=r'sinks\[0\]: the table narrow at .*column "route" of relation "narrow"'):
        write(server, "narrow", AS_OF, [0.2], route=["EWR-LAX"])
    with pytest.raises(ServiceError, match="violates check constraint") as caught:
        write(server, "narrow", AS_OF, [7.25])
    assert "7.25" not in str(caught.value)
    with pytest.raises(ServiceError, match='schema "nowhere" does not exist') as caught:
        write(server, "nowhere.late", AS_OF, [0.1])
    assert PASSWORD not in str(caught.value)
    assert server.query("SELECT prediction FROM narrow") == [(0.1,)]
