"""The settings of one local stack, read once from the environment."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from penstock.home import Ports, environment_name, home, ports, root
from penstock.stack.errors import StackError

STACK_ID_VARIABLE = "PENSTOCK_STACK_ID"
"""Every process of a stack carries this variable, so that leftovers are recognised as ours."""

_LONGEST_SOCKET_PATH = 100  # Linux allows 107 bytes, macOS 103; supervisord appends a suffix while it binds


@dataclasses.dataclass(frozen=True)
class Network:
    """Where programs listen, and how they are found: all on the loopback, unless each has a container."""

    listen: str = "127.0.0.1"
    """The address that they listen on."""
    spark: str = "localhost"
    mlflow: str = "localhost"
    airflow: str = "localhost"
    """The host names under which they find one another."""
    airflow_url: str | None = None
    """Airflow's address for browsers; None: as the programs find it."""
    mlflow_hosts: tuple[str, ...] = ()
    """More values of the Host header that MLflow answers to."""


@dataclasses.dataclass(frozen=True)
class MlflowStores:
    """Where MLflow keeps what it is given; databases are SQLAlchemy addresses and may hold a password."""

    database: str = dataclasses.field(repr=False)
    logins: str = dataclasses.field(repr=False)
    artifacts: str
    """A folder, or an object store's URL."""


@dataclasses.dataclass(frozen=True)
class StackSettings:
    """Everything that tells two local stacks apart, and how large this one is."""

    environment: str
    root: Path
    home: Path
    ports: Ports
    python: Path
    spark_memory: str = "2g"
    spark_cores: int = 2
    spark_java_options: tuple[str, ...] = ()
    """Further options of Spark's JVM."""
    airflow_parallelism: int = 4
    airflow_database: str | None = dataclasses.field(default=None, repr=False)
    """SQLAlchemy address (may hold a password); None: SQLite in the state folder."""
    mlflow_stores: MlflowStores | None = None
    """None: SQLite and a folder in the state folder."""
    network: Network = Network()

    @property
    def state(self) -> Path:
        """The folder of all this stack's state."""
        return self.home / self.environment

    @property
    def stack_id(self) -> str:
        """What the processes of this stack carry in STACK_ID_VARIABLE."""
        return str(self.state)

    @property
    def logs(self) -> Path:
        """One log file a program, and Airflow's task logs."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """What only a running stack needs: supervisor's configuration, pid and lock files."""
        return self.state / "run"

    @property
    def jars(self) -> Path:
        """Spark's extra jars, shared by the environments of this home."""
        return self.home / "jars"

    @property
    def socket(self) -> Path:
        """Supervisor's socket; in the temporary folder when the state folder's path is too long for one."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}-{digest}" / "supervisor.sock"


def read_settings() -> StackSettings:
    """Return the settings that the environment variables PENSTOCK_* select.

    Raises:
        StackError: a value cannot be used.
    """
    memory = os.environ.get("PENSTOCK_SPARK_MEMORY") or "2g"
    if not re.fullmatch(r"[1-9][0-9]*[mg]", memory.lower()):
        raise StackError(f"PENSTOCK_SPARK_MEMORY={memory!r}: write a size such as 2g or 1536m")
    return StackSettings(
        environment=environment_name(),
        root=root(),
        home=home(),
        ports=ports(),
        python=Path(sys.executable),
        spark_memory=memory.lower(),
        spark_cores=_count("PENSTOCK_SPARK_CORES", 2),
        spark_java_options=_java_options(),
        airflow_parallelism=_count("PENSTOCK_AIRFLOW_PARALLELISM", 4),
        airflow_database=os.environ.get("PENSTOCK_AIRFLOW_DB") or None,
    )


def _java_options() -> tuple[str, ...]:
    text = os.environ.get("PENSTOCK_SPARK_JAVA_OPTIONS") or ""
    try:
        options = tuple(shlex.split(text))
    except ValueError as error:
        raise StackError(f"PENSTOCK_SPARK_JAVA_OPTIONS={text!r}: {error}; write as in a shell") from error
    for option in options:
        if not option.startswith("-"):
            raise StackError(f"PENSTOCK_SPARK_JAVA_OPTIONS: {option!r} is no option of a JVM: they begin with -")
        if option.startswith("-Xmx"):
            raise StackError(f"PENSTOCK_SPARK_JAVA_OPTIONS: {option}: PENSTOCK_SPARK_MEMORY sets the memory")
    return options


def _count(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise StackError(f"{variable}={text!r}: write a whole number from 1")
    return int(text)
