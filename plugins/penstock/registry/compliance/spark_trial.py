"""A Spark ML model, which is asked where Spark is: in a session of this environment's server, not in a process here."""

import statistics
import time
from typing import TYPE_CHECKING, Any

from penstock.errors import ServiceError
from penstock.registry.candidates import load_version
from penstock.registry.compliance.probe import score_stored_rows
from penstock.registry.compliance.trial import Trial
from penstock.training.errors import ScoringError

if TYPE_CHECKING:
    import pandas as pd

    from penstock.registry.compliance.subject import Subject
    from penstock.training.scoring import Scorer

FLAVOR = "spark"
_ROWS, _SINGLE_ROWS = 200, 3


def try_in_spark(subject: "Subject") -> Trial:
    """What came of loading and asking it. Its files are data; nothing of them is unpickled. Raises ServiceError."""
    began = time.perf_counter()
    try:
        scorer = load_version(subject.workspace, subject.registered.name, int(subject.version.version))
    except ScoringError as error:
        return Trial(load_error=str(error)[:600])
    loaded = time.perf_counter() - began
    if subject.sample is None:
        return Trial(load_seconds=loaded)
    rows = subject.sample.rows
    try:
        predictions = scorer.predict(rows)  # loads it into the session, too
        few = rows.tail(_ROWS)
        one = statistics.median(_seconds(scorer, rows.iloc[[n % len(rows)]]) for n in range(_SINGLE_ROWS))
        batch = _seconds(scorer, few)
    except ServiceError:
        raise
    except Exception as error:  # Spark raises whatever it likes
        return Trial(load_seconds=loaded, score_error=f"{type(error).__name__}: {str(error)[:600]}")
    return Trial(
        load_seconds=loaded, predictions=predictions, row_milliseconds=1000 * one, rows_per_second=len(few) / batch,
        **_example(subject, scorer),
    )  # fmt: skip


def _example(subject: "Subject", scorer: "Scorer") -> dict[str, Any]:
    """What a trial says of the rows stored with the model."""
    try:
        return {"example_rows": score_stored_rows(subject.files.folder, scorer)}
    except ServiceError:
        raise
    except Exception as error:  # as above, and the rows may be anything
        return {"example_error": f"{type(error).__name__}: {str(error)[:600]}"}


def _seconds(scorer: "Scorer", frame: "pd.DataFrame") -> float:
    began = time.perf_counter()
    scorer.predict(frame)
    return time.perf_counter() - began
