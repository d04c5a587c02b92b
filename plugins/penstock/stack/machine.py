"""What must hold before anything is started; every problem is reported at once."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil

from penstock.stack.errors import JarsError, JavaNotFoundError, MachineError
from penstock.stack.jars import ensure_jars, have_jars
from penstock.stack.java import find_java
from penstock.stack.leftovers import belongs_to
from penstock.stack.programs import Service
from penstock.stack.settings import StackSettings

OLDEST_PYTHON = (3, 11)
_DISK_BYTES = 2 * 2**30
_MEMORY_BYTES = {Service.SPARK: 2.5 * 2**30, Service.MLFLOW: 0.5 * 2**30, Service.AIRFLOW: 2 * 2**30}


def check_machine(
    settings: StackSettings,
    services: Collection[Service],
    to_start: Collection[Service],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Check that `services` can run, of which `to_start` do not yet; fetch Spark's jars if missing.

    Raises:
        MachineError: with every problem found.
    """
    problems = [
        *_python_problems(),
        *_state_problems(settings),
        *_memory_problems(to_start),
        *_port_problems(settings, services),
    ]
    if Service.SPARK in services:
        problems += _spark_problems(settings, say)
    if problems:
        raise MachineError(problems)


def _python_problems() -> Iterator[str]:
    if sys.version_info < OLDEST_PYTHON:
        found, needed = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, OLDEST_PYTHON))
        yield f"Python {found} is too old: run `make setup` with Python {needed} or newer on the PATH"


def _state_problems(settings: StackSettings) -> Iterator[str]:
    try:
        settings.state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.state):
            pass
    except OSError as error:
        yield f"cannot write to {settings.state} ({error.strerror}): set PENSTOCK_HOME to another folder"
        return
    free = psutil.disk_usage(str(settings.state)).free
    if free < _DISK_BYTES:
        yield (
            f"{settings.state} has {_gib(free)} free, {_gib(_DISK_BYTES)} are needed: free some, or set "
            "PENSTOCK_HOME to another disk"
        )


def _memory_problems(services: Collection[Service]) -> Iterator[str]:
    needed = sum(_MEMORY_BYTES[service] for service in services)
    available = available_memory_bytes()
    if available < needed:
        names = ", ".join(services)
        yield (
            f"{_gib(available)} of memory are available, {names} need {_gib(needed)}: close something, lower "
            "PENSTOCK_SPARK_MEMORY, or start fewer services (`penstock up spark mlflow`)"
        )


def available_memory_bytes() -> float:
    """Return the memory that can be taken without swapping, within the limit of a container too."""
    available = float(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return min(available, float(limit) - float(used)) if limit != "max" else available
    except (OSError, ValueError):
        return available


def _port_problems(settings: StackSettings, services: Collection[Service]) -> Iterator[str]:
    for service in services:
        port = getattr(settings.ports, service.value)
        if port_is_free(port):
            continue
        holder = port_holder(port)
        if holder is not None and belongs_to(holder, settings.stack_id):
            continue
        yield (
            f"port {port} for {service.value} is taken by {_described(holder)}: stop that, or choose another "
            f"port with PENSTOCK_{service.value.upper()}_PORT"
        )


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_holder(port: int) -> psutil.Process | None:
    """Return the process that listens on a port; None when there is none, or we may not know it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            with contextlib.suppress(psutil.Error):
                return psutil.Process(connection.pid)
    return None


def _described(process: psutil.Process | None) -> str:
    if process is None:
        return "a process of another user"
    try:
        return f"process {process.pid} ({process.name()}, user {process.username()})"
    except psutil.Error:
        return f"process {process.pid}"


def _spark_problems(settings: StackSettings, say: Callable[[str], None]) -> list[str]:
    try:
        java = find_java()
        if not have_jars(settings.jars):
            say("Fetching Delta Lake's jars (once)")
        ensure_jars(settings.jars, java)
    except (JavaNotFoundError, JarsError) as error:
        return [str(error)]
    except OSError as error:
        return [f"cannot write Spark's jars to {settings.jars}: {error}"]
    return []


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
