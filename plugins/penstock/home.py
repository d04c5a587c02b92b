"""Where Penstock keeps its local state, and how to reach the local services.

Standard library only: everything imports this, DAG files at parse time too.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError

DEFAULT_ENVIRONMENT = "dev"


class LocalStackError(PenstockError):
    """The local stack's settings or credentials are missing or unreadable."""


@dataclasses.dataclass(frozen=True)
class Ports:
    """The local TCP ports of each service."""

    airflow: int
    mlflow: int
    spark: int
    serving: int


@dataclasses.dataclass(frozen=True)
class Login:
    """A user name and its password."""

    username: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class AirflowCredentials:
    """Airflow's address (no trailing slash) and its users: the administrator, and others by name."""

    url: str
    username: str
    password: str = dataclasses.field(repr=False)
    others: tuple[Login, ...] = ()

    def login(self, username: str) -> Login:
        """Return the login of `username`; raises LocalStackError when there is none."""
        for login in (Login(self.username, self.password), *self.others):
            if login.username == username:
                return login
        raise LocalStackError(f"no Airflow user {username!r} in credentials.json")


@dataclasses.dataclass(frozen=True)
class MlflowCredentials:
    """MLflow's tracking address and login."""

    url: str
    username: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class SparkCredentials:
    """Spark Connect's address (`sc://localhost:PORT`, no token in it) and its token."""

    url: str
    token: str = dataclasses.field(repr=False)

    @property
    def remote(self) -> str:
        """The address with the token, for `SparkSession.builder.remote`. A secret: never log it."""
        return f"{self.url}/;token={self.token}"


@dataclasses.dataclass(frozen=True)
class WebhookCredentials:
    """Where MLflow tells Airflow of new versions, and the secret that it signs with.

    The secret before this one counts for some minutes after it was replaced: deliveries may be under way.
    """

    url: str
    secret: str = dataclasses.field(repr=False)
    previous_secret: str | None = dataclasses.field(default=None, repr=False)
    replaced_at: str | None = None

    def accepted(self, moment: datetime.datetime) -> tuple[str, ...]:
        """Return the secrets that a delivery may be signed with at `moment`."""
        if self.previous_secret is None or self.replaced_at is None:
            return (self.secret,)
        age = moment - datetime.datetime.fromisoformat(self.replaced_at)
        return (self.secret, self.previous_secret) if age < _PREVIOUS_SECRET_COUNTS else (self.secret,)


_PREVIOUS_SECRET_COUNTS = datetime.timedelta(minutes=10)


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What credentials.json holds: how to reach each local service."""

    airflow: AirflowCredentials
    mlflow: MlflowCredentials
    spark: SparkCredentials
    webhook: WebhookCredentials | None = None
    """None in the file of a stack that was started before there were webhooks."""


def root() -> Path:
    """Return the repository's root: PENSTOCK_ROOT, or the folder that holds plugins/."""
    configured = os.environ.get("PENSTOCK_ROOT")
    if configured:
        return Path(configured).expanduser().resolve()
    return Path(__file__).resolve().parents[2]


def home() -> Path:
    """Return the state folder of all environments: PENSTOCK_HOME, or .penstock in the root."""
    configured = os.environ.get("PENSTOCK_HOME")
    if configured:
        return Path(configured).expanduser().resolve()
    return root() / ".penstock"


def environment_name() -> str:
    """Return the selected environment: PENSTOCK_ENV, or dev."""
    name = os.environ.get("PENSTOCK_ENV") or DEFAULT_ENVIRONMENT
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise LocalStackError(
            f"PENSTOCK_ENV={name!r} is no environment's name: write lower-case letters, digits, - and _"
        )
    return name


def state_dir(environment: str | None = None) -> Path:
    """Return the folder that holds all local state of `environment` (the selected one if None)."""
    return home() / (environment or environment_name())


def ports() -> Ports:
    """Return the local ports, from PENSTOCK_*_PORT or the defaults.

    Raises:
        LocalStackError: a value is no port number, or two services have the same.
    """
    chosen = Ports(
        airflow=_port("PENSTOCK_AIRFLOW_PORT", 8080),
        mlflow=_port("PENSTOCK_MLFLOW_PORT", 5000),
        spark=_port("PENSTOCK_SPARK_PORT", 15002),
        serving=_port("PENSTOCK_SERVING_PORT", 8000),
    )
    services = dataclasses.asdict(chosen)
    if len(set(services.values())) < len(services):
        raise LocalStackError(f"two services share a port: {services}; change PENSTOCK_*_PORT")
    return chosen


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise LocalStackError(f"{variable}={text!r} is no port: write a number from 1 to 65535")
    return int(text)


def credentials_path(environment: str | None = None) -> Path:
    """Return the file with the local stack's generated logins."""
    return state_dir(environment) / "credentials.json"


def read_credentials(environment: str | None = None) -> Credentials:
    """Return the local stack's addresses and logins.

    Raises:
        LocalStackError: the stack was never started in this state folder, or the file is damaged.
    """
    path = credentials_path(environment)
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise LocalStackError(
            f"no local stack in {path.parent} ({path.name} is missing): start it with `penstock up`"
        ) from None
    except (OSError, ValueError) as error:
        raise LocalStackError(f"cannot read {path}: {error}; remove it and run `penstock up`") from error
    try:
        airflow, mlflow, spark = content["airflow"], content["mlflow"], content["spark"]
        return Credentials(
            airflow=AirflowCredentials(
                url=airflow["url"],
                username=airflow["username"],
                password=airflow["password"],
                others=tuple(Login(u["username"], u["password"]) for u in airflow["others"]),
            ),
            mlflow=MlflowCredentials(**mlflow),
            spark=SparkCredentials(**spark),
            webhook=WebhookCredentials(**content["webhook"]) if "webhook" in content else None,
        )
    except (KeyError, TypeError) as error:
        raise LocalStackError(
            f"{path} lacks what is expected there ({error}): remove it and run `penstock up`"
        ) from error
