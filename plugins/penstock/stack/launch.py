"""Starts one program of the stack: `python -m penstock.stack.launch FILE`.

Reads the command, folder and environment from FILE (mode 0600) and becomes that program. So secrets stand
neither on a command line, which `ps` shows to everybody, nor in supervisor's configuration. What an earlier
life of the program left behind (killed by SIGKILL, it cannot stop its children) is stopped first: an orphaned
worker would go on writing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from penstock.stack.leftovers import PROGRAM_VARIABLE, find_processes, stop_processes
from penstock.stack.settings import STACK_ID_VARIABLE


def main() -> None:
    """Replace this process by the program that the file on the command line describes."""
    description = json.loads(Path(sys.argv[1]).read_text())
    program = description["program"]
    environment = {**description["environment"], PROGRAM_VARIABLE: program}
    search = [str(Path(sys.executable).parent), *environment.get("PATH", os.defpath).split(os.pathsep)]
    environment["PATH"] = os.pathsep.join(dict.fromkeys(search))
    stopped = stop_processes(find_processes(environment[STACK_ID_VARIABLE], program))
    if stopped:
        print(f"penstock: stopped {stopped} processes that an earlier {program} had left", flush=True)
    os.chdir(description["folder"])
    os.execve(description["command"][0], description["command"], environment)


if __name__ == "__main__":
    main()
