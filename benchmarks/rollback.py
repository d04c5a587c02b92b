"""How long a rollback takes on the running local stack: from the command until a fresh process scores by the former
version.

    make bench-rollback [MODEL=flight_delays.late_arrival]

The model needs two versions that have been in production. What was in production is promoted again afterwards, so that
the stack is left as it was found; the audit tells of it. Exit code 1 above ten seconds.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from penstock.clock import to_text
from penstock.registry.freezing import allow
from penstock.registry.production import settled_production
from penstock.registry.promotion import promote
from penstock.registry.stages import current_production
from penstock.workspace import Workspace

PENSTOCK = str(Path(sys.executable).parent / "penstock")
WHO = "benchmark"
MOST_SECONDS = 10.0


def measure(workspace: Workspace, target: str) -> dict[str, float]:
    """The version that left and the one that came back; seconds of the command as a process of its own, and from its
    start until another process has loaded the version that is then in production, as batch scoring does.
    """
    project, _, model = target.partition(".")
    before = current_production(workspace, project, model)
    if before is None:
        raise SystemExit(f"{target} has no version in production: promote two, one after the other")
    begin = time.perf_counter()
    try:
        subprocess.run([PENSTOCK, "rollback", target, "--reason", WHO, "--by", WHO], check=True, stdout=sys.stderr)
        command = time.perf_counter() - begin
        used = _used_by_a_fresh_process(target)
        effect = time.perf_counter() - begin
    finally:
        put_back(workspace, project, model, before)
    if used == before:
        raise SystemExit(f"{target} was rolled back, and is still scored by version {before}")
    return {
        "from_version": before, "to_version": used, "command_seconds": round(command, 2),
        "effect_seconds": round(effect, 2),
    }  # fmt: skip


def load(workspace: Workspace, target: str) -> int:
    """Loads what batch inference scores by; answers its version."""
    from penstock.training.scoring import load_scorer

    production = settled_production(workspace, *target.split("."))
    if production is None:
        raise SystemExit(f"{target} has no version in production")
    load_scorer(workspace, target, production)
    return production


def put_back(workspace: Workspace, project: str, model: str, version: int) -> None:
    """Promotes a version that was rolled back; where it still is in production, there is nothing to do."""
    if current_production(workspace, project, model) == version:
        return
    allow(workspace, project, model, version, WHO, WHO)
    cause = f"benchmark {to_text(workspace.moment())} {time.time():.0f}"
    promote(workspace, project, model, version, WHO, WHO, {}, workspace.moment(), cause=cause)


def _used_by_a_fresh_process(target: str) -> int:
    words = [sys.executable, "-m", "benchmarks.rollback", target, "--load"]
    folder = Path(__file__).resolve().parents[1]
    return int(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=folder).stdout)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="PROJECT.MODEL")
    parser.add_argument("--load", action="store_true", help="only load what scores now, and print its version")
    asked = parser.parse_args()
    workspace = Workspace.open()
    if asked.load:
        sys.stdout.write(f"{load(workspace, asked.model)}\n")
        return 0
    found = measure(workspace, asked.model)
    sys.stdout.write(json.dumps(found) + "\n")
    return int(found["effect_seconds"] > MOST_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
