"""The local stack as a whole: up, down, status."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import psutil

from penstock import home
from penstock.home import Credentials
from penstock.stack import airflow_database, health
from penstock.stack.airflow_programs import airflow_environment, airflow_programs
from penstock.stack.credentials import ensure_credentials, ensure_secrets
from penstock.stack.errors import ServiceFailedError, StackError
from penstock.stack.files import make_private_folder, tail
from penstock.stack.jars import ensure_jars
from penstock.stack.java import find_java
from penstock.stack.leftovers import find_orphans, find_processes, stop_processes
from penstock.stack.machine import check_machine
from penstock.stack.mlflow_program import mlflow_program
from penstock.stack.programs import PROGRAMS, Program, Service, programs_of
from penstock.stack.settings import StackSettings
from penstock.stack.spark_program import spark_program
from penstock.stack.supervisor import ALIVE, BROKEN, ProcessState, ProgramStatus, Supervisor
from penstock.stack.webhook import set_webhook

_LOCK_SECONDS = 300
_START_SECONDS = {Service.SPARK: 120, Service.MLFLOW: 180, Service.AIRFLOW: 240}
_STOP_SECONDS = 60
_RESTARTS_TOLERATED = 1
_JAVA_FRAME = "\tat "

Say = Callable[[str], None]


class ServiceState(enum.StrEnum):
    """What a user is told of a service."""

    UP = "up"
    DOWN = "down"
    STARTING = "starting"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class ServiceStatus:
    """A service's state, address (no secret in it), and what is wrong with it, if anything."""

    state: ServiceState
    url: str
    detail: str = ""


def start(settings: StackSettings, services: Collection[Service], say: Say = lambda _: None) -> bool:
    """Start `services` and return once each answers; return whether that took any doing.

    Raises:
        MachineError: the machine is not fit; nothing was started.
        ServiceFailedError: a service did not come up; it is left as it is, for a look at it.
        ServiceError: all are up, but MLflow would not take the webhook.
    """
    with _locked(settings):
        supervisor = Supervisor(settings)
        statuses = supervisor.statuses()
        _stop_orphans(settings, supervisor, say)
        dead = [s for s in services if not _all_alive(s, statuses)]
        check_machine(settings, services, dead, say)
        ensure_credentials(settings)
        credentials = home.read_credentials(settings.environment)
        programs = _programs(settings, credentials, services)
        make_private_folder(settings.logs)
        changed = supervisor.configure(programs)
        if not statuses:
            supervisor.start()
        started = _start_programs(settings, supervisor, credentials, programs, changed, say)
        waited = [_wait_until_healthy(settings, supervisor, service, credentials, say) for service in services]
        if {Service.MLFLOW, Service.AIRFLOW} <= set(services):
            set_webhook(settings.environment, credentials)
        return started or any(waited)


def stop(settings: StackSettings, say: Say = lambda _: None) -> bool:
    """Stop everything of this stack and return whether there was anything.

    Raises:
        StackError: a process of ours outlives even SIGKILL.
    """
    if not settings.state.exists():
        return False
    with _locked(settings):
        supervisor = Supervisor(settings)
        running = find_processes(settings.stack_id)
        if not running:
            return False
        supervisor_pid = supervisor.pid()
        if supervisor_pid is not None:
            supervisor.shut_down()
            _wait_until_ended(supervisor_pid)
        left = stop_processes(find_processes(settings.stack_id))
        if left:
            say(f"Stopped {left} processes that were left over")
        survivors = find_processes(settings.stack_id)
        if survivors:
            raise StackError(f"these processes do not end: {[p.pid for p in survivors]}")
        settings.socket.unlink(missing_ok=True)
        return True


def status(settings: StackSettings) -> dict[Service, ServiceStatus]:
    """Return the status of every service."""
    statuses = Supervisor(settings).statuses()
    addresses = _addresses(settings)
    if not statuses and find_processes(settings.stack_id):
        detail = "its supervisor has died: run `penstock up`"
        return {s: ServiceStatus(ServiceState.FAILED, addresses[s], detail) for s in Service}
    if not any(program.state in ALIVE | BROKEN for program in statuses.values()):
        return {s: ServiceStatus(ServiceState.DOWN, addresses[s]) for s in Service}
    credentials = home.read_credentials(settings.environment)
    return {s: _service_status(s, addresses[s], statuses, credentials) for s in Service}


def _service_status(
    service: Service, url: str, statuses: dict[str, ProgramStatus], credentials: Credentials
) -> ServiceStatus:
    programs = [statuses[name] for name in programs_of([service]) if name in statuses]
    broken = [p for p in programs if p.state in BROKEN]
    if broken:
        return ServiceStatus(ServiceState.FAILED, url, "; ".join(f"{p.name}: {p.message}" for p in broken))
    if not any(p.state in ALIVE for p in programs):
        return ServiceStatus(ServiceState.DOWN, url)
    problem = health.check(service, credentials)
    if problem is None and _all_alive(service, statuses):
        return ServiceStatus(ServiceState.UP, url)
    youngest = max(p.started for p in programs)
    young = time.time() - youngest < _START_SECONDS[service]
    return ServiceStatus(ServiceState.STARTING if young else ServiceState.FAILED, url, problem or "")


def _addresses(settings: StackSettings) -> dict[Service, str]:
    return {
        Service.SPARK: f"sc://localhost:{settings.ports.spark}",
        Service.MLFLOW: f"http://localhost:{settings.ports.mlflow}",
        Service.AIRFLOW: f"http://localhost:{settings.ports.airflow}",
    }


def _programs(settings: StackSettings, credentials: Credentials, services: Collection[Service]) -> list[Program]:
    secrets = ensure_secrets(settings)
    programs: list[Program] = []
    if Service.SPARK in services:
        java = find_java()
        programs.append(spark_program(settings, credentials, java, ensure_jars(settings.jars, java)))
    if Service.MLFLOW in services:
        programs.append(mlflow_program(settings, credentials, secrets))
    if Service.AIRFLOW in services:
        programs += airflow_programs(settings, credentials, secrets)
    return programs


def _start_programs(
    settings: StackSettings,
    supervisor: Supervisor,
    credentials: Credentials,
    programs: Sequence[Program],
    changed: Collection[str],
    say: Say,
) -> bool:
    statuses = supervisor.statuses()
    started = False
    for program in programs:
        alive = statuses[program.name].state in ALIVE
        if alive and program.name not in changed:
            continue
        if alive:
            say(f"Restarting {program.name}: its settings changed")
            supervisor.stop_program(program.name)
        if PROGRAMS[program.name] is Service.AIRFLOW and not airflow_database.is_migrated(settings):
            say("Migrating Airflow's database")
            secrets = ensure_secrets(settings)
            airflow_database.migrate(settings, airflow_environment(settings, credentials, secrets))
        supervisor.start_program(program.name)
        started = True
    return started


def _wait_until_healthy(
    settings: StackSettings, supervisor: Supervisor, service: Service, credentials: Credentials, say: Say
) -> bool:
    """Return once the service works, and whether that took any waiting."""
    waited = False
    deadline = time.monotonic() + _START_SECONDS[service]
    pids: dict[str, set[int]] = {name: set() for name in programs_of([service])}
    while True:
        statuses = supervisor.statuses()
        for name, seen in pids.items():
            current = statuses.get(name)
            if current is None or current.state in BROKEN:
                raise _failure(settings, name, current.message if current else "supervisord has ended")
            if current.pid:
                seen.add(current.pid)
            if len(seen) > 1 + _RESTARTS_TOLERATED:
                raise _failure(settings, name, "it ends again and again")
        problem = health.check(service, credentials)
        if problem is None and _all_alive(service, statuses):
            return waited
        if not waited:
            say(f"Waiting for {service.value}")
            waited = True
        if time.monotonic() > deadline:
            raise _failure(settings, programs_of([service])[0], f"no answer in time: {problem}")
        time.sleep(0.25)


def _failure(settings: StackSettings, program: str, reason: str) -> ServiceFailedError:
    log = settings.logs / f"{program}.log"
    told = [line for line in tail(log, 200) if not line.startswith(_JAVA_FRAME)]  # frames bury the message
    evidence = "\n".join(f"    {line[:300]}" for line in told[-20:]) or "    (empty)"
    where = f"the end of {log} (more: penstock logs {program})"
    return ServiceFailedError(f"{program} did not come up: {reason}\n  {where}:\n{evidence}")


def _all_alive(service: Service, statuses: dict[str, ProgramStatus]) -> bool:
    stopped = ProcessState.STOPPED
    return all((statuses[name].state if name in statuses else stopped) in ALIVE for name in programs_of([service]))


def _stop_orphans(settings: StackSettings, supervisor: Supervisor, say: Say) -> None:
    orphans = find_orphans(settings.stack_id, supervisor.pid())
    if orphans:
        stopped = stop_processes(orphans)
        say(f"Stopped {stopped} processes that a crash had left")


def _wait_until_ended(supervisor_pid: int) -> None:
    """Wait for supervisord, which ends after its programs; running tasks are not its programs."""
    with contextlib.suppress(psutil.Error):
        psutil.Process(supervisor_pid).wait(timeout=_STOP_SECONDS)


@contextlib.contextmanager
def _locked(settings: StackSettings) -> Iterator[None]:
    """Hold the stack's lock, so that two commands do not start or stop it at once."""
    try:
        make_private_folder(settings.state)
        make_private_folder(settings.run)
        lock = (settings.run / "stack.lock").open("w")
    except OSError as error:
        raise StackError(
            f"cannot write to {settings.state} ({error.strerror}): set PENSTOCK_HOME to another folder"
        ) from error
    with lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"another penstock command holds {lock.name}") from None
                time.sleep(0.2)
        yield
