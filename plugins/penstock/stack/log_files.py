"""Reading the programs' log files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.stack.errors import StackError
from penstock.stack.files import tail
from penstock.stack.programs import PROGRAMS, Service
from penstock.stack.settings import StackSettings


def find_logs(settings: StackSettings, name: str | None = None) -> list[Path]:
    """Return the log files of a service or program, of all when `name` is None.

    Raises:
        StackError: there is no such name, or no log yet.
    """
    known = {*PROGRAMS, *Service}
    if name is not None and name not in known:
        raise StackError(f"no service or program {name!r}: choose from {', '.join(sorted(known))}")
    programs = [p for p, service in PROGRAMS.items() if name is None or name in (p, service)]
    files = [settings.logs / f"{program}.log" for program in programs]
    if name in (None, Service.SPARK):
        files.append(settings.logs / "spark-server.log")
    found = [path for path in files if path.exists()]
    if not found:
        raise StackError(f"no logs in {settings.logs} yet: start the stack with `penstock up`")
    return found


def read_logs(files: Sequence[Path], lines: int) -> Iterator[str]:
    """Yield the last `lines` lines of each file, each under its path."""
    for path in files:
        yield f"==> {path} <=="
        yield from tail(path, lines, longest_bytes=max(16_384, lines * 400))


def follow_logs(files: Sequence[Path], pause_seconds: float = 0.5) -> Iterator[str]:
    """Yield the lines that are added from now on, each behind its program's name; never ends."""
    positions = {path: path.stat().st_size for path in files}
    while True:
        for path, position in positions.items():
            size = path.stat().st_size if path.exists() else 0
            if size < position:  # rotated
                position = 0
            if size > position:
                with path.open("rb") as file:
                    file.seek(position)
                    added = file.read()
                whole = added[: added.rfind(b"\n") + 1]
                position += len(whole)
                yield from (f"{path.stem}: {line}" for line in whole.decode(errors="replace").splitlines())
            positions[path] = position
        time.sleep(pause_seconds)
