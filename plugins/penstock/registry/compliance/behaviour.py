"""How a version behaves once it was loaded: checks on the outcome of its trial."""

from typing import TYPE_CHECKING, Any

from penstock.registry.candidates import Sample
from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.registry.compliance.trial import Trial
from penstock.spec.compliance import Severity
from penstock.spec.project import Task

if TYPE_CHECKING:
    import numpy as np

    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject


@check("loads", fixed=True, on_loaded=True)
def check_loads(subject: "Subject") -> "Check":
    """A clean process (no variable, login or home folder of this one; nothing of Penstock imported) loads the model
    by its MLflow flavour, within `promotion.compliance.timeout` and `max_memory_megabytes`. A class that does not
    import, a broken file, a crash and a timeout are named with what the library said. Spark ML models are loaded into
    a session of this environment's Spark instead, where neither bound holds.
    """
    trial = _trial(subject)
    if trial.loaded:
        memory_used = f", {trial.memory_megabytes:.0f} MB of memory" if trial.memory_megabytes else ""
        where = "this environment's Spark" if subject.files.flavor == "spark" else "a clean process"
        return passed(
            f"{where} loads it by {subject.files.flavor} in {trial.load_seconds:.2f} s{memory_used}",
            load_seconds=trial.load_seconds, memory_megabytes=trial.memory_megabytes,
        )  # fmt: skip
    if trial.load_error is not None:
        return failed(
            f"a clean process cannot load it: {trial.load_error}. Are its files whole, and does every class that they "
            "name belong to a package of its requirements.txt?"
        )
    return failed(
        f"a clean process that loads it {trial.problem}. Load it by mlflow.{subject.files.flavor}.load_model to see why"
    )


@check("scores", on_loaded=True)
def check_scores(subject: "Subject") -> "Check":
    """It answers the newest 1,000 rows of its training set (or the rows stored with it) with finite numbers,
    a classification with probabilities. The evidence holds their distribution.
    """
    trial, sample = _trial(subject), subject.sample
    if sample is None:
        return failed(
            "nothing to try it on: its training set (tag penstock.training_set) is gone, and it stores no example rows"
        )
    if trial.score_error is not None:
        return failed(f"it does not score rows of {sample.source}: {trial.score_error}")
    if trial.predictions is None:
        return failed(f"it does not score rows of {sample.source}: its process {trial.problem or 'gave no answer'}")
    return _judge_predictions(trial.predictions, sample, Task(subject.files.feature_spec["task"]))


@check("input_example", on_loaded=True)
def check_input_example(subject: "Subject") -> "Check":
    """The rows stored with the model (`extra_files/example_rows.json`, and, but for Spark ML models, MLflow's input
    example where there is one) are scored without a fault.
    """
    trial = _trial(subject)
    if trial.example_error is not None:
        return failed(f"it fails on the example stored with it: {trial.example_error}")
    if trial.example_rows is None:
        return warned("the example stored with it was not tried, since it does not score")
    if not trial.example_rows:
        return warned("no example rows are stored with it: log it with some")
    return passed(f"scores the {trial.example_rows} example rows stored with it", rows=trial.example_rows)


@check("latency", Severity.WARN, on_loaded=True)
def check_latency(subject: "Subject") -> "Check":
    """The median of 30 single rows is within `promotion.compliance.max_row_milliseconds`, and the median of three
    batches reaches `min_rows_per_second`: Penstock's own scoring on the machine of the check, at whatever it does
    beside. A figure, not a load test.
    """
    trial, asked = _trial(subject), subject.asked
    if trial.row_milliseconds is None or trial.rows_per_second is None:
        return warned("not measured, since it does not score")
    evidence = {
        "row_milliseconds": trial.row_milliseconds, "rows_per_second": trial.rows_per_second,
        "max_row_milliseconds": asked.max_row_milliseconds, "min_rows_per_second": asked.min_rows_per_second,
    }  # fmt: skip
    text = (
        f"{trial.row_milliseconds:.3g} ms for a single row (at most {asked.max_row_milliseconds:g}), "
        f"{trial.rows_per_second:,.0f} rows/s in a batch (at least {asked.min_rows_per_second:g})"
    )
    slow = trial.row_milliseconds > asked.max_row_milliseconds or trial.rows_per_second < asked.min_rows_per_second
    return failed(f"too slow: {text}", **evidence) if slow else passed(text, **evidence)


def _trial(subject: "Subject") -> Trial:
    assert subject.trial is not None  # the gate makes these checks only after the trial
    return subject.trial


def _judge_predictions(prediction: "np.ndarray", sample: Sample, task: Task) -> "Check":
    import numpy as np

    infinite = int((~np.isfinite(prediction)).sum())
    if infinite:
        return failed(f"{infinite} of {len(prediction)} predictions on rows of {sample.source} are no finite numbers")
    low, quarter, half, three_quarters, high = (float(x) for x in np.quantile(prediction, [0, 0.25, 0.5, 0.75, 1]))
    evidence: dict[str, Any] = {
        "rows": len(prediction), "source": sample.source, "mean": float(prediction.mean()),
        "std": float(prediction.std()), "min": low, "quartiles": [quarter, half, three_quarters], "max": high,
    }  # fmt: skip
    middle = f"half of them in {quarter:.4g} to {three_quarters:.4g}"
    figures = f"mean {evidence['mean']:.4g}, from {low:.4g} to {high:.4g}, {middle}"
    if task is Task.CLASSIFICATION and (low < 0 or high > 1):
        return failed(f"its predictions are no probabilities: {figures}", **evidence)
    return passed(f"{len(prediction)} rows of {sample.source}: {figures}", **evidence)
