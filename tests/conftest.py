"""What all tests share."""

import fcntl
import os
from pathlib import Path

import pytest

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parents[1]
SERIAL = "e2e"  # one Airflow for all of its tests


@pytest.hookimpl(tryfirst=True)  # before the workers read the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several workers one has all end-to-end tests, first since they take longest; a file of the others is one's."""
    for item in items:
        folder, *_ = item.path.relative_to(REPOSITORY / "tests").parts
        item.add_marker(pytest.mark.xdist_group(SERIAL if folder == SERIAL else str(item.path)))
    items.sort(key=lambda item: REPOSITORY / "tests" / SERIAL not in item.path.parents)


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
