"""Loads a model in a process of its own and asks it; run as a file, with a request (JSON) and a place for the answer.

Nothing of Penstock is imported before the model is loaded by MLflow's own flavour: so it is known to load without.
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

_EXAMPLE = "extra_files/example_rows.json"
_SINGLE_ROWS, _BATCH_ROWS, _REPEATS = 30, 1000, 3


def main(request_file: str, answer_file: str) -> None:
    """Answers what went well and what did not; a process that dies leaves the answer as far as it came."""
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    answer: dict[str, Any] = {}

    def note(**values: Any) -> None:
        answer.update(values, memory_megabytes=_memory_megabytes())
        Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")

    imports = Imports()
    try:
        began = time.perf_counter()
        model = _load(request, imports)
        note(load_seconds=time.perf_counter() - began, imported=imports.importers)
    except BaseException as error:  # whatever a library raises is the answer
        note(load_error=_text(error))
        return
    if request.get("rows"):
        sys.path.append(request["penstock"])
        _ask(request, model, note)


class Imports:
    """A finder that finds nothing: it notes which packages are imported for the first time, each with the module that
    does it (`pickle`, where that is an unpickler of whatever library).
    """

    def __init__(self) -> None:
        self.importers: dict[str, str] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG002
        """Called by Python with every module that it has not imported yet; path is None for top-level ones."""
        if path is not None:
            return
        frame = sys._getframe(1)
        while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("importlib"):
            frame = frame.f_back
        unpickles = frame.f_code.co_name == "find_class"
        self.importers.setdefault(name, "pickle" if unpickles else str(frame.f_globals.get("__name__")))


def _load(request: dict[str, Any], imports: Imports) -> Any:
    import importlib

    importlib.import_module("mlflow")  # what it imports for itself says nothing of the model
    sys.meta_path.insert(0, imports)
    flavor = importlib.import_module(f"mlflow.{request['flavor']}")
    return flavor.load_model(request["folder"])


def _ask(request: dict[str, Any], model: Any, note: Any) -> None:
    import numpy as np
    import pandas as pd

    from penstock.training.scoring import Scorer

    rows = pd.read_feather(request["rows"])
    try:
        scorer = Scorer(request["folder"], request["feature_spec"], model)
        predictions = scorer.predict(rows)
        np.save(request["predictions"], np.asarray(predictions, dtype="float64"))
        note(scored=len(predictions))
    except BaseException as error:
        note(score_error=_text(error))
        return
    singles = [rows.iloc[[n % len(rows)]] for n in range(_SINGLE_ROWS)]
    batch = pd.concat([rows] * -(-_BATCH_ROWS // len(rows)), ignore_index=True)
    note(
        row_milliseconds=1000 * statistics.median(_seconds(scorer, one) for one in singles),
        rows_per_second=len(batch) / statistics.median(_seconds(scorer, batch) for _ in range(_REPEATS)),
    )
    try:
        _try_example(request, scorer, note)
    except BaseException as error:
        note(example_error=_text(error))


def _try_example(request: dict[str, Any], scorer: Any, note: Any) -> None:
    """The rows stored with the model through Penstock's scorer; MLflow's own input example through MLflow."""
    import mlflow

    tried = score_stored_rows(request["folder"], scorer)
    loaded = mlflow.models.Model.load(request["folder"])
    if loaded.saved_input_example_info:
        example = loaded.load_input_example(request["folder"])
        mlflow.pyfunc.load_model(request["folder"]).predict(example)
        tried += len(example)
    note(example_rows=tried)


def score_stored_rows(folder: str | Path, scorer: Any) -> int:
    """Scores the rows that Penstock stored with a model; answers how many there are. Raises what the model raises."""
    import numpy as np
    import pandas as pd

    stored = Path(folder, _EXAMPLE)
    if not stored.is_file():
        return 0
    frame = pd.DataFrame(json.loads(stored.read_text(encoding="utf-8")))
    if not np.isfinite(scorer.predict(frame)).all():
        raise ValueError(f"predictions for {_EXAMPLE} are no finite numbers")
    return len(frame)


def _seconds(scorer: Any, frame: Any) -> float:
    began = time.perf_counter()
    scorer.predict(frame)
    return time.perf_counter() - began


def _memory_megabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:600]}"


if __name__ == "__main__":
    main(*sys.argv[1:])
