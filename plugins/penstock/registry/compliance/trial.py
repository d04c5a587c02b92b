"""A model loaded and asked in a process of its own: its crash, its hunger and its endless loop are answers, too."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock
from penstock.registry.candidates import Sample
from penstock.registry.compliance.files import ModelFiles
from penstock.spec.compliance import Compliance

if TYPE_CHECKING:
    import numpy as np

_PROBE = Path(__file__).with_name("probe.py")
_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "JAVA_HOME", "VIRTUAL_ENV", "OMP_NUM_THREADS", "SYSTEMROOT",
)  # fmt: skip
_MOST_OUTPUT = 600


@dataclass(frozen=True)
class Trial:
    """What came of it. problem: why the process did not come to its end; None where it did.

    predictions: for the sample's rows; None where it did not score them.
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
            "max_memory_megabytes": asked.max_memory_megabytes, "penstock": str(Path(penstock.__file__).parents[1]),
            "predictions": str(folder / "predictions.npy"), "rows": _write_rows(sample, folder),
        }  # fmt: skip
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        problem = _run(python, folder, asked.timeout.total_seconds(), _environment(folder, trusted))
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
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true" if trusted else "false",
    }  # fmt: skip


def _run(python: str, folder: Path, timeout_seconds: float, environment: Mapping[str, str]) -> str | None:
    """Why the process did not come to its end; None where it did."""
    words = [python, "-I", str(_PROBE), str(folder / "request.json"), str(folder / "answer.json")]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environment),
            cwd=folder, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            return f"was stopped after {timeout_seconds:g} s (promotion.compliance.timeout)"
        finally:
            _end(process)
    if code == 0:
        return None
    said = (folder / "output").read_text(encoding="utf-8", errors="replace").strip()[-_MOST_OUTPUT:]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"{how}{': ' + said if said else ''}"


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
