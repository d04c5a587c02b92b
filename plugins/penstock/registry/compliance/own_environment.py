"""A virtual environment made from a model's own requirements, and whether the model loads there."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import now
from penstock.gates import some
from penstock.home import state_dir
from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.registry.compliance.requirements import declared_requirements
from penstock.registry.compliance.trial import try_model
from penstock.spec.compliance import Severity
from penstock.training.spark_ml import FLAVOR as SPARK

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject

_MOST_OUTPUT = 600


_KEPT = 5
_IN_USE = timedelta(days=1)  # whoever took one up less than this ago may still be in it


class _CannotBuild(Exception):
    """uv could not make the environment; the text says why."""


@check("own_environment", Severity.OFF, on_loaded=True)
def check_own_environment(subject: "Subject") -> "Check":
    """A virtual environment made by uv from the model's requirements.txt alone loads it. Off by default, since it needs
    uv and a package index, and takes minutes the first time; environments are kept by the hash of their requirements.
    Only wheels are installed, and only for models of known origin, for packages can run code. Switch it on where
    models are also used outside of Penstock: `severities: {own_environment: block}`.
    """
    if not (subject.provenance.is_ours or subject.provenance.adopted):
        return warned(
            "no environment was made, since the model's origin is unknown: its requirements may name anything"
        )
    if subject.files.flavor == SPARK:
        return warned("no environment was made: a Spark ML model is loaded where Spark is, not in a process alone")
    declared, odd = declared_requirements(subject.files)
    elsewhere = [*odd, *(str(wanted) for wanted in declared if wanted.url)]
    if elsewhere or not declared:
        return failed(f"its requirements are not from a package index: {some(elsewhere) or 'it has none'}")
    try:
        python = _environment(sorted(map(str, declared)), subject.asked.timeout.total_seconds())
    except _CannotBuild as error:
        return failed(f"its requirements cannot be installed: {error}")
    trial = try_model(subject.files, None, subject.asked, python=str(python), trusted=True)
    if not trial.loaded:
        return failed(f"does not load with its own requirements alone: {trial.load_error or trial.problem}")
    return passed(f"loads with its {len(declared)} requirements alone, in {trial.load_seconds:.2f} s")


def prune_environments(*, keep: int = _KEPT, dry_run: bool = False) -> list[str]:
    """Removes the environments that were used least recently, all but the newest few and those of the last day, and
    what a killed process left half made. Answers the names of what was (in a dry run: would be) removed.
    """
    folder = _folder()
    used = {path: path.stat().st_mtime for path in folder.iterdir()} if folder.is_dir() else {}
    whole = sorted((path for path in used if "." not in path.name), key=used.__getitem__, reverse=True)
    latest = (now() - _IN_USE).timestamp()
    old = [path for path in [*whole[keep:], *(path for path in used if "." in path.name)] if used[path] < latest]
    for path in old:
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in old)


def _folder() -> Path:
    return state_dir() / "model_environments"


def _environment(requirements: list[str], timeout_seconds: float) -> Path:
    """The interpreter of an environment with these requirements, made where there is none yet."""
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:16]
    place = _folder() / key
    python = place / "bin" / "python"
    if python.exists():
        os.utime(place)  # the last use, by which old ones are removed
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=place.parent))
    try:
        _call([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(partial)], timeout_seconds)
        _call(
            [uv, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", str(partial / "bin" / "python"),
             *requirements],
            timeout_seconds,
        )  # fmt: skip
        with suppress(OSError):  # another process was quicker: its environment is as good
            partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return python


def _call(words: list[str], timeout_seconds: float) -> None:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=timeout_seconds, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise _CannotBuild(f"uv does not run here ({error}): install it") from error
    except subprocess.TimeoutExpired as error:
        raise _CannotBuild(f"it took more than {timeout_seconds:g} s (promotion.compliance.timeout)") from error
    if done.returncode:
        raise _CannotBuild((done.stderr or done.stdout).strip()[-_MOST_OUTPUT:])
