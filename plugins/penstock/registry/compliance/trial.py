"""A model loaded and asked in a process of its own: its crash, its hunger and its endless loop are answers, too."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.registry.candidates import Sample
from penstock.spec.compliance import Compliance
from penstock.training.model_folder import ModelFiles
from penstock.training.serialisation import SWITCH

if TYPE_CHECKING:
    import numpy as np

_PROBE = Path(__file__).with_name("probe.py")
_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "JAVA_HOME", "VIRTUAL_ENV", "OMP_NUM_THREADS", "SYSTEMROOT",
)  # fmt: skip
_MOST_OUTPUT, _LOOK_EVERY_SECONDS = 600, 0.2


@dataclass(frozen=True)
class Trial:
    """What came of it. problem: why the process did not come to its end; None where it did.

    predictions: for the sample's rows; None where it did not score them. imported: by package that loading and scoring
    imported, the module that did; None where it was not watched.
    """

    problem: str | None = None
    load_error: str | None = None
    score_error: str | None = None
    example_error: str | None = None
    load_seconds: float | None = None
    memory_megabytes: float | None = None
    row_milliseconds: float | None = None
    rows_per_second: float | None = None
    example_rows: int | None = None
    imported: dict[str, str] | None = None
    predictions: "np.ndarray | None" = None

    @property
    def loaded(self) -> bool:
        """Whether the model was loaded, whatever came later."""
        return self.load_seconds is not None


def try_model(
    files: ModelFiles, sample: Sample | None, asked: Compliance, *, python: str = sys.executable, trusted: bool = False
) -> Trial:
    """Loads a model by its MLflow flavour in a clean process, and asks it for predictions of the sample.

    Clean: `python -I`, an empty home, and no variable of this process but the few that find programs and libraries,
    so that no login is handed on. It is no sandbox: what must not run is not loaded at all (`serialisation`).
    """
    with tempfile.TemporaryDirectory(prefix="penstock-trial-") as name:
        folder = Path(name)
        request = {
            "folder": str(files.folder), "flavor": files.flavor, "feature_spec": files.feature_spec,
            "penstock": str(Path(penstock.__file__).parents[1]),
            "predictions": str(folder / "predictions.npy"), "rows": _write_rows(sample, folder),
        }  # fmt: skip
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        problem = _run(python, folder, asked, _environment(folder, trusted))
        return _read(folder, problem)


def _write_rows(sample: Sample | None, folder: Path) -> str | None:
    if sample is None:
        return None
    path = folder / "rows.feather"
    sample.rows.reset_index(drop=True).to_feather(path)
    return str(path)


def _environment(folder: Path, trusted: bool) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **kept, "HOME": str(folder), "TMPDIR": str(folder), "MLFLOW_TRACKING_URI": f"file:{folder}/mlruns",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "PYTHONDONTWRITEBYTECODE": "1",
        SWITCH: "true" if trusted else "false",
    }  # fmt: skip


def _run(python: str, folder: Path, asked: Compliance, environment: Mapping[str, str]) -> str | None:
    """Why the process did not come to its end; None where it did."""
    words = [python, "-I", str(_PROBE), str(folder / "request.json"), str(folder / "answer.json")]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environment),
            cwd=folder, start_new_session=True,
        )  # fmt: skip
        try:
            stopped = _watch(process, asked)
        finally:
            _end(process)
    if stopped is not None:
        return stopped
    code = process.returncode
    if code == 0:
        return None
    said = (folder / "output").read_text(encoding="utf-8", errors="replace").strip()[-_MOST_OUTPUT:]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"{how}{': ' + said if said else ''}"


def _watch(process: "subprocess.Popen[bytes]", asked: Compliance) -> str | None:
    """Waits for the process to end; why it must not go on, where it takes too long or too much."""
    deadline = time.monotonic() + asked.timeout.total_seconds()
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=_LOOK_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            used = _resident_megabytes(process.pid)
            if used > asked.max_memory_megabytes:
                limit = f"{asked.max_memory_megabytes} MB (promotion.compliance.max_memory_megabytes)"
                return f"was stopped at {used:.0f} MB of memory, more than {limit}"
        else:
            return None
    return f"was stopped after {asked.timeout.total_seconds():g} s (promotion.compliance.timeout)"


def _resident_megabytes(pid: int) -> float:
    """The memory of a process and of those that it started."""
    import psutil

    total = 0
    try:
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:
        pass  # it has just ended
    return total / 1e6


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends what is left of the process and of those that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _read(folder: Path, problem: str | None) -> Trial:
    import numpy as np

    try:
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        answer = {}
        problem = problem or "left no answer"
    known = {name: answer[name] for name in Trial.__dataclass_fields__ if name in answer}
    scored = folder / "predictions.npy"
    if "scored" in answer and scored.is_file():
        known["predictions"] = np.load(scored, allow_pickle=False)
    return Trial(**{**known, "problem": problem})
