"""How long a rollback takes: from the command to batch scoring with the former version, on the running local stack.

    python -m benchmarks.rollback flight_delays.late_arrival

The model needs two versions that have been in production. It is rolled back, allowed again and promoted again, so
that the stack is left as it was found.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from penstock.clock import to_text
from penstock.registry.freezing import allow
from penstock.registry.promotion import promote
from penstock.registry.stages import current_production
from penstock.workspace import Workspace

PENSTOCK = str(Path(sys.executable).parent / "penstock")
WHO = "benchmark"


def measure(target: str) -> dict[str, float]:
    """Seconds of the command as a process of its own, and from its start until inference would load the former one."""
    from penstock.training.scoring import load_scorer

    workspace = Workspace.open()
    project, _, model = target.partition(".")
    before = current_production(workspace, project, model)
    begin = time.perf_counter()
    subprocess.run([PENSTOCK, "rollback", target, "--reason", WHO, "--by", WHO], check=True, stdout=sys.stderr)
    command = time.perf_counter() - begin
    now = current_production(workspace, project, model)
    assert now is not None
    assert now != before
    load_scorer(workspace, target, now)
    effect = time.perf_counter() - begin
    assert before is not None
    allow(workspace, project, model, before, WHO, WHO)
    cause = f"benchmark {to_text(workspace.moment())} {time.time():.0f}"
    promote(workspace, project, model, before, WHO, WHO, {}, workspace.moment(), cause=cause)
    return {"command_seconds": round(command, 2), "effect_seconds": round(effect, 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="PROJECT.MODEL")
    sys.stdout.write(json.dumps(measure(parser.parse_args().model)) + "\n")
