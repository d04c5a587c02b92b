"""Commands in processes of their own that start at once: forks of a server that has everything imported."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.integration.preloaded"])


@dataclass(frozen=True)
class Command:
    """A `penstock` command in a session of its own, which may be killed with everything below it."""

    process: ForkServerProcess
    output: Path

    @property
    def said(self) -> str:
        """What it printed."""
        return self.output.read_text()

    def ends(self, seconds: float) -> int | None:
        """Its exit code; None where it still runs after that time."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL for it and what it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def start(words: Sequence[str], output: Path, **environment: str) -> Command:
    """Begins `penstock WORDS` with this process's environment and more variables."""
    process = SERVER.Process(target=_run, args=(list(words), output, {**os.environ, **environment}))
    process.start()
    return Command(process, output)


def _run(words: list[str], output: Path, environment: Mapping[str, str]) -> None:
    from penstock.cli import app

    os.setsid()
    os.environ.update(environment)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["penstock", *words]
    app()
