"""A Spark server for measurements: of its own, in a folder of its own, stopped at the end."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.home import root
from penstock.stack.jars import ensure_jars
from penstock.stack.java import find_java
from penstock.workspace import Workspace


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def spark_server(heap: str) -> Iterator[Workspace]:
    """A workspace on a server with a heap of this size (2g); until the end, Workspace.open("dev", …) finds it, too."""
    penstock = str(Path(sys.executable).parent / "penstock")
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        jars = root() / ".penstock/jars"
        ensure_jars(jars, find_java())
        (Path(name) / "jars").symlink_to(jars)
        os.environ.update(
            PENSTOCK_HOME=name, PENSTOCK_ENV="dev", PENSTOCK_SPARK_MEMORY=heap, PENSTOCK_SPARK_PORT=str(free_port())
        )
        try:
            subprocess.run([penstock, "up", "spark"], check=True)
            yield Workspace.open("dev")
        finally:
            subprocess.run([penstock, "down"], check=False)
            os.environ.clear()
            os.environ.update(before)
