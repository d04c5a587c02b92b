"""What all tests share."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
# Spark's servers live for minutes here and see hundreds of small queries: to compile each of them, and the JVM's code
# twice, costs them half of their processor time. The demo, Compose and the benchmarks run with Spark's own defaults.
_FOR_SMALL_QUERIES = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
    "-Dspark.sql.codegen.wholeStage=false -Dspark.sql.codegen.factoryMode=NO_CODEGEN"
)
os.environ.setdefault("PENSTOCK_SPARK_JAVA_OPTIONS", _FOR_SMALL_QUERIES)

REPOSITORY = Path(__file__).resolve().parents[1]
SERIAL = "e2e"  # one Airflow for all of its tests


class PackagesAndFiles(LoadScopeScheduling):
    """One worker gets all end-to-end tests, since they share an Airflow; of the others each file is one worker's."""

    def _split_scope(self, nodeid: str) -> str:
        return SERIAL if nodeid.startswith(f"tests/{SERIAL}/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Shares out tests by what they need together."""
    return PackagesAndFiles(config, log)


def link_jars(home: Path) -> None:
    """Spark's jars for a stack in `home`: fetched once into the repository's state folder, whoever comes first."""
    from penstock.stack.jars import ensure_jars
    from penstock.stack.java import find_java

    jars = REPOSITORY / ".penstock/jars"
    jars.mkdir(parents=True, exist_ok=True)
    with (jars / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ensure_jars(jars, find_java())
    (home / "jars").symlink_to(jars)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY
