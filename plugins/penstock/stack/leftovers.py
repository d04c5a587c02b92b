"""Finding and stopping the processes of a stack by the mark in their environment, never by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

from penstock.stack.settings import STACK_ID_VARIABLE

PROGRAM_VARIABLE = "PENSTOCK_PROGRAM"
"""Which program of its stack a process belongs to; supervisord itself carries none."""


def find_processes(stack_id: str, program: str | None = None) -> list[psutil.Process]:
    """Return the processes that carry the mark of this stack (and program), but the caller's line."""
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in spared and _is_marked(process, stack_id, program):
                found.append(process)
    return found


def find_orphans(stack_id: str, supervisor_pid: int | None) -> list[psutil.Process]:
    """Return this stack's processes that no living supervisord of it holds."""
    held: set[int] = set()
    if supervisor_pid is not None:
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(supervisor_pid)
            held = {supervisor_pid, *(child.pid for child in supervisor.children(recursive=True))}
    return [process for process in find_processes(stack_id) if process.pid not in held]


def belongs_to(process: psutil.Process, stack_id: str) -> bool:
    """Say whether a process carries the mark of this stack."""
    try:
        return _is_marked(process, stack_id, None)
    except (psutil.Error, OSError):
        return False


def _is_marked(process: psutil.Process, stack_id: str, program: str | None) -> bool:
    environment = process.environ()
    if environment.get(STACK_ID_VARIABLE) != stack_id:
        return False
    return program is None or environment.get(PROGRAM_VARIABLE) == program


def stop_processes(processes: Iterable[psutil.Process], patience_seconds: float = 4) -> int:
    """Ask the processes to end, kill those that do not, and return how many there were."""
    ours = list(processes)
    for process in ours:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(ours, timeout=patience_seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=patience_seconds)
    return len(ours)
