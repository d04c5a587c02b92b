"""Bringing Airflow's database to the installed version: once, not at every start."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from penstock.stack.airflow_programs import airflow_database, airflow_executable
from penstock.stack.errors import ServiceFailedError
from penstock.stack.files import tail, write_private
from penstock.stack.programs import inherited_environment
from penstock.stack.settings import StackSettings

_TIMEOUT_SECONDS = 300


def is_migrated(settings: StackSettings) -> bool:
    """Say, without starting Airflow, whether its database is known to be at the installed version."""
    if settings.airflow_database is not None:
        return False  # others may change it: let Airflow look
    try:
        stamp = json.loads(_stamp_path(settings).read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp == _stamp(settings)) and stamp["revision"] is not None


def migrate(settings: StackSettings, environment: Mapping[str, str]) -> None:
    """Run `airflow db migrate` with Airflow's `environment`.

    Raises:
        ServiceFailedError: it failed; with the end of its log.
    """
    log = settings.logs / "airflow-migrate.log"
    path = os.pathsep.join([str(settings.python.parent), os.environ.get("PATH", os.defpath)])
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                [str(airflow_executable(settings)), "db", "migrate"],
                env={**inherited_environment(), **environment, "PATH": path},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code != 0:
        evidence = "\n".join(f"    {line}" for line in tail(log))
        raise ServiceFailedError(f"Airflow's database could not be migrated; see {log}\n{evidence}")
    write_private(_stamp_path(settings), json.dumps(_stamp(settings)))


def _stamp_path(settings: StackSettings) -> Path:
    return settings.state / "airflow" / "migrated.json"


def _stamp(settings: StackSettings) -> dict[str, str | None]:
    address = airflow_database(settings)
    return {
        "airflow": importlib.metadata.version("apache-airflow"),
        "database": hashlib.sha256(address.encode()).hexdigest(),  # it may hold a password
        "revision": _sqlite_revision(settings) if settings.airflow_database is None else None,
    }


def _sqlite_revision(settings: StackSettings) -> str | None:
    path = settings.state / "airflow" / "airflow.db"
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
