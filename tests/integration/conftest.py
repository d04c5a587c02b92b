"""Real services for integration tests: one Spark Connect server and one MLflow server for the whole session."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.spec.environment import OnlineStoreKind, OnlineStoreSpec
from penstock.workspace import Connections, Workspace
from tests.conftest import link_jars
from tests.integration.orders import orders_shop
from tests.integration.plant import make_plant, plant, trained

__all__ = ["make_plant", "orders_shop", "plant", "trained"]

REPOSITORY = Path(__file__).resolve().parents[2]
PENSTOCK = str(Path(sys.executable).parent / "penstock")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connections]:
    """Spark Connect and MLflow of a stack of its own, or of a running one (PENSTOCK_TEST_STACK=running)."""
    if os.environ.get("PENSTOCK_TEST_STACK") == "running":
        yield Workspace.open("dev", REPOSITORY).resolved
        return
    home = tmp_path_factory.mktemp("stack")
    link_jars(home)
    settings = {"PENSTOCK_HOME": str(home), "PENSTOCK_ENV": "dev"}
    settings |= {f"PENSTOCK_{name}_PORT": str(free_port()) for name in ("SPARK", "MLFLOW", "AIRFLOW", "SERVING")}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        started = subprocess.run([PENSTOCK, "up", "spark", "mlflow"], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stdout + started.stderr
        yield Workspace.open("dev", REPOSITORY).resolved
    finally:
        subprocess.run([PENSTOCK, "down"], capture_output=True, check=False)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def make_workspace(stack: Connections, tmp_path: Path) -> Callable[..., Workspace]:
    """Makes a workspace with an empty lakehouse of its own: make_workspace(root=None, **environment changes)."""

    def make(root: Path | None = None, lakehouse: Path | None = None, **changes: object) -> Workspace:
        found = Workspace.open("dev", root or REPOSITORY)
        folder = str(lakehouse or tmp_path / "lakehouse")
        place = found.environment.lakehouse.model_copy(update={"root": folder})
        online = {"default": OnlineStoreSpec(kind=OnlineStoreKind.SQLITE, path=f"{folder}.online.sqlite")}
        environment = found.environment.model_copy(
            update={"lakehouse": place, "online_stores": online, "replay_clock": None, **changes}
        )
        return found.with_(environment=environment, connections=stack)

    return make
