"""Supervisor: its configuration, its start, and what it is asked over its socket."""

from __future__ import annotations

import dataclasses
import enum
import http.client
import json
import os
import shlex
import socket
import subprocess
import xmlrpc.client
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tenacity
from supervisor.xmlrpc import SupervisorTransport

from penstock.stack.errors import StackError
from penstock.stack.files import make_private_folder, tail, write_private
from penstock.stack.programs import PROGRAMS, Program
from penstock.stack.settings import STACK_ID_VARIABLE, StackSettings

_STOP_SECONDS = 10  # the scheduler would wait for its tasks to end
_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70  # supervisor.xmlrpc.Faults


class ProcessState(enum.StrEnum):
    """Supervisor's states of a program."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"


ALIVE = frozenset({ProcessState.STARTING, ProcessState.RUNNING, ProcessState.BACKOFF})
BROKEN = frozenset({ProcessState.EXITED, ProcessState.FATAL, ProcessState.UNKNOWN})


@dataclasses.dataclass(frozen=True)
class ProgramStatus:
    """What supervisor knows of one program; pid is None unless it runs, started in Unix seconds."""

    name: str
    state: ProcessState
    pid: int | None
    started: float
    message: str


class Supervisor:
    """One stack's supervisord."""

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings
        self._configuration = settings.run / "supervisord.conf"
        self._log = settings.logs / "supervisord.log"

    def is_running(self) -> bool:
        """Say whether a supervisord answers on the socket."""
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def configure(self, programs: Sequence[Program]) -> frozenset[str]:
        """Write the programs' files; return the names of those whose settings changed."""
        for folder in (self._settings.run, self._settings.socket.parent):
            make_private_folder(folder)
        changed = set()
        for program in programs:
            if self._known_fingerprint(program.name) != program.fingerprint():
                changed.add(program.name)
            program.folder.mkdir(parents=True, exist_ok=True)
            for path, content in program.files.items():
                write_private(path, content)
            write_private(self._description(program.name), program.description())
        write_private(self._configuration, _configuration(self._settings, self._description))
        return frozenset(changed)

    def start(self) -> None:
        """Start supervisord, with no program yet, and return once it answers.

        Raises:
            StackError: it does not answer.
        """
        self._settings.socket.unlink(missing_ok=True)  # left by one that was killed
        (self._settings.run / "supervisord.pid").unlink(missing_ok=True)
        started = subprocess.run(
            [str(self._settings.python), "-m", "supervisor.supervisord", "-c", str(self._configuration)],
            env={**os.environ, STACK_ID_VARIABLE: self._settings.stack_id, **self._python_path()},
            cwd=self._settings.run,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            self._wait_until_running()
        except tenacity.RetryError:
            evidence = started.stderr.splitlines() or tail(self._log, 5)
            raise StackError(f"supervisord does not answer; see {self._log}\n" + "\n".join(evidence)) from None

    def statuses(self) -> dict[str, ProgramStatus]:
        """Return every program's status by name; empty when no supervisord runs."""
        try:
            answer = self._call("getAllProcessInfo")
        except OSError:
            return {}
        return {
            info["name"]: ProgramStatus(
                name=info["name"],
                state=ProcessState(info["statename"]),
                pid=info["pid"] or None,
                started=float(info["start"]),
                message=info["spawnerr"] or info["description"],
            )
            for info in answer
        }

    def start_program(self, name: str) -> None:
        """Start a program without waiting; nothing happens when it runs."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise

    def stop_program(self, name: str) -> None:
        """Stop a program and wait until it is gone; nothing happens when it does not run."""
        try:
            self._call("stopProcess", name, True)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (_NOT_RUNNING, _BAD_NAME):
                raise

    def shut_down(self) -> None:
        """Ask supervisord to stop all its programs and itself; returns at once."""
        try:
            self._call("shutdown")
        except OSError:
            return

    def pid(self) -> int | None:
        """Return supervisord's process id; None when it does not run."""
        try:
            return int(self._call("getPID"))
        except OSError:
            return None

    def _description(self, name: str) -> Path:
        return self._settings.run / "programs" / f"{name}.json"

    def _known_fingerprint(self, name: str) -> str | None:
        try:
            return str(json.loads(self._description(name).read_text())["fingerprint"])
        except (OSError, ValueError, KeyError):
            return None

    def _python_path(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._settings.root / "plugins")}

    @tenacity.retry(
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(15),
        retry=tenacity.retry_if_result(lambda running: not running),
    )
    def _wait_until_running(self) -> bool:
        return self.is_running()

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call supervisor's XML-RPC method; raises OSError when nobody listens."""
        transport = SupervisorTransport(None, None, f"unix://{self._settings.socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (http.client.HTTPException, socket.gaierror) as error:
            raise ConnectionError(str(error)) from error


def _configuration(settings: StackSettings, description: Callable[[str], Path]) -> str:
    """Return supervisord's configuration: every program of a stack, none of which starts unasked."""
    sections: list[tuple[str, dict[str, Any]]] = [
        ("unix_http_server", {"file": settings.socket, "chmod": "0700"}),
        (
            "supervisord",
            {
                "logfile": settings.logs / "supervisord.log",
                "logfile_maxbytes": "5MB",
                "logfile_backups": 1,
                "pidfile": settings.run / "supervisord.pid",
                "childlogdir": settings.logs,
                "identifier": "penstock",
                "umask": "077",
                **({"user": "root"} if os.getuid() == 0 else {}),  # says that root is meant
            },
        ),
        (
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        ("supervisorctl", {"serverurl": f"unix://{settings.socket}"}),
    ]
    for name in PROGRAMS:
        launcher = [
            str(settings.python),
            "-m",
            "penstock.stack.launch",
            str(description(name)),
        ]
        options = {
            "command": shlex.join(launcher),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": 3,
            "startretries": 2,
            "stopasgroup": "true",
            "killasgroup": "true",
            "stopwaitsecs": _STOP_SECONDS,
            "redirect_stderr": "true",
            "stdout_logfile": settings.logs / f"{name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 3,
        }
        sections.append((f"program:{name}", options))
    return "\n".join(_section(name, options) for name, options in sections)


def _section(name: str, options: dict[str, Any]) -> str:
    lines = (f"{key} = {str(value).replace('%', '%%')}" for key, value in options.items())
    return f"[{name}]\n" + "\n".join(lines) + "\n"
