"""The roles and databases on a PostgreSQL server that Airflow and MLflow share."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import quote


@dataclasses.dataclass(frozen=True)
class Owner:
    """A role that logs in, and the databases that are its own."""

    role: str
    password: str = dataclasses.field(repr=False)
    databases: tuple[str, ...]


def address(host: str, role: str, password: str, database: str) -> str:
    """Return a database's SQLAlchemy address; a secret."""
    return f"postgresql+psycopg2://{quote(role, safe='')}:{quote(password, safe='')}@{host}:5432/{database}"


def ensure_databases(host: str, superuser: str, password: str, owners: tuple[Owner, ...]) -> list[str]:
    """Create the roles and databases that are missing, and give each role its password; return what was created.

    Raises:
        psycopg2.Error: the server does not answer, or refuses the superuser.
    """
    import psycopg2

    connection = psycopg2.connect(host=host, user=superuser, password=password, dbname="postgres", connect_timeout=10)
    try:
        connection.autocommit = True  # CREATE DATABASE takes no transaction
        with connection.cursor() as cursor:
            return [name for owner in owners for name in _ensure(cursor, owner)]
    finally:
        connection.close()


def _ensure(cursor: Any, owner: Owner) -> list[str]:
    from psycopg2.sql import SQL, Identifier, Literal

    created = []
    role = Identifier(owner.role)
    if not _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", owner.role):
        cursor.execute(SQL("CREATE ROLE {}").format(role))
        created.append(f"role {owner.role}")
    cursor.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, Literal(owner.password)))
    for name in owner.databases:
        if not _exists(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", name):
            cursor.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(name), role))
            created.append(f"database {name}")
        cursor.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(name)))
    return created


def _exists(cursor: Any, query: str, name: str) -> bool:
    cursor.execute(query, (name,))
    return cursor.fetchone() is not None
