"""The loop through Airflow against the same steps in one process, on one Spark server, turn about; and memory.

A stack of its own is started in a temporary folder. The replay of include/demo.yaml runs through Airflow; after each of
its steps a copy of the project (under another name, in another folder of the same lakehouse) takes the same step by
`penstock run`'s functions in this process. The ratio of the two is what orchestration costs.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from penstock.airflow_rest import AirflowClient
from penstock.clock import to_text
from penstock.demo import Demo, read_replay
from penstock.home import read_credentials, root
from penstock.runner import Request, run_pipeline
from penstock.spec.graph import used_projects
from penstock.workspace import Workspace

STEPS = int(os.environ.get("STEPS", "3"))
PENSTOCK = str(Path(sys.executable).parent / "penstock")
COPY = "bench_"
BARS = {"demo_seconds": 480.0, "memory_gib": 6.0, "ratio": 1.5}


class Memory(threading.Thread):
    """Samples the memory (PSS, so that shared pages count once) of a stack's processes."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.home, self.peak, self.stopped = str(home), 0, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(2.0):
            total = 0
            for process in psutil.process_iter(["environ"]):
                with suppress(psutil.Error):
                    if (process.info["environ"] or {}).get("PENSTOCK_HOME") == self.home and process.pid != os.getpid():
                        total += process.memory_full_info().pss
            self.peak = max(self.peak, total)


def measure() -> None:
    """Runs the benchmark and prints the table."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        jars = root() / ".penstock/jars"
        if jars.is_dir():
            (home / "jars").symlink_to(jars)
        ports = {f"PENSTOCK_{name}_PORT": str(_free_port()) for name in ("SPARK", "MLFLOW", "AIRFLOW", "SERVING")}
        os.environ.update({"PENSTOCK_HOME": str(home), "PENSTOCK_ENV": "dev", **ports})
        memory = Memory(home)
        begin = time.perf_counter()
        subprocess.run([PENSTOCK, "up"], check=True)
        started = time.perf_counter() - begin
        memory.start()
        try:
            steps = _replay(console, Path(folder))
        finally:
            memory.stopped.set()
            subprocess.run([PENSTOCK, "down"], check=False)
        _print(console, started, steps, memory.peak / 2**30)


def _replay(console: Console, folder: Path) -> list[tuple[str, float, float]]:
    """Each step's as_of, seconds through Airflow, seconds in one process."""
    workspace = Workspace.open("dev")
    replay = read_replay(workspace.root)
    copy = _copy_projects(folder)
    refreshed = [*used_projects(workspace.project(replay.project).spec), replay.project]
    login = read_credentials("dev").airflow
    measured = []
    with AirflowClient(login.url, login.username, login.password) as client:
        demo = Demo(workspace, client, console, replay)
        demo.wait_for_dags()
        for number, as_of in enumerate(replay.moments[: STEPS + 1]):
            airflow = demo.step(number, STEPS, as_of)
            plain = _in_one_process(copy, refreshed, replay.model, number, as_of)
            measured.append((to_text(as_of), airflow, plain))
            console.print(f"through Airflow {airflow:.1f} s, in one process {plain:.1f} s")
    return measured


def _copy_projects(folder: Path) -> Workspace:
    """The projects under other names, which read each other under these."""
    target = folder / "copy"
    shutil.copytree(root() / "include", target / "include")
    projects = target / "include/projects"
    names = [path.name for path in projects.iterdir() if (path / "project.yaml").exists()]
    for name in names:
        (projects / name).rename(projects / f"{COPY}{name}")
        declaration = projects / f"{COPY}{name}" / "project.yaml"
        text = declaration.read_text().replace(f"name: {name}\n", f"name: {COPY}{name}\n", 1)
        for other in names:
            text = text.replace(f" {other}.", f" {COPY}{other}.")
        declaration.write_text(text)
    return Workspace.open("dev", target)


def _in_one_process(workspace: Workspace, projects: list[str], model: str, number: int, as_of: datetime) -> float:
    steps = [("feature_refresh", name) for name in projects]
    pipelines = ["batch_inference", "monitoring", "retraining"] if number else ["training"]
    steps += [(name, projects[-1]) for name in pipelines]
    begin = time.perf_counter()
    for pipeline, project in steps:
        run_pipeline(workspace, pipeline, Request(f"{COPY}{project}", model, as_of), lambda *_: None)
    return time.perf_counter() - begin


def _print(console: Console, started: float, steps: list[tuple[str, float, float]], memory: float) -> None:
    table = Table("measured", "figure", "bar", title="The loop")
    demo = started + sum(airflow for _, airflow, _ in steps)
    table.add_row("warm demo: stack up and all steps", f"{demo:.0f} s", f"{BARS['demo_seconds']:.0f} s")
    table.add_row("of which stack up", f"{started:.0f} s", "")
    for as_of, airflow, plain in steps:
        table.add_row(
            f"step {as_of}: Airflow / one process", f"{airflow:.1f} / {plain:.1f} s = {airflow / plain:.2f}",
            f"{BARS['ratio']}",
        )  # fmt: skip
    table.add_row("peak memory of the stack (PSS)", f"{memory:.1f} GiB", f"{BARS['memory_gib']:.0f} GiB")
    console.print(table)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
