"""Measures a candidate on its hold-out block, beside the heuristic, and keeps tables and pictures with the run."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.names import CALIBRATION_PREFIX, HEURISTIC_PREFIX, INTERVAL_PREFIX, THRESHOLD_PREFIX
from penstock.training.errors import TrainingError
from penstock.training.evaluation import EvaluationReport, Predicted, Subject, evaluate_predictions, reported_metrics
from penstock.training.heuristic import heuristic_predictions
from penstock.training.plots import save_plots
from penstock.training.runs import TrainingRun, dataclass_json, open_run, tracking
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FOLDER = "evaluation"
REPORT = f"{FOLDER}/hold_out.json"
THRESHOLD_TAG = "penstock.threshold"


@dataclass(frozen=True)
class EvaluatedModel:
    """What a model reaches on `rows` rows that it has not seen; the whole is in the run's evaluation/hold_out.json.

    metrics: what it promises. heuristic: what `promotion.heuristic` reaches on the same rows. left_out: metrics that
    these rows do not define, with the reason. window: first and last prediction time. threshold: from which
    probability on to act (None for a regression). worst_slice: where it is worst beyond chance, if anywhere.
    """

    run_id: str
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    heuristic: dict[str, float]
    left_out: dict[str, str]
    window: tuple[str, str]
    threshold: float | None
    worst_slice: str | None


def evaluate_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> EvaluatedModel:
    """Adds hold-out metrics, evaluation/ (report and tables) and plots to a training run; a repeat replaces them.

    Metrics are logged by their plain names, those of the heuristic with the prefix `heuristic_`, the bounds of
    confidence intervals with `interval_low_` and `interval_high_`.
    Raises TrainingError for an unknown or unfinished run, ServiceError where MLflow does not answer.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        hold_out, tuning = (
            Predicted.of(rows, run.scorer.predict(rows)) for rows in (run.split.hold_out, run.split.tuning)
        )
        features = run.scorer.columns.names
        guess = heuristic_predictions(run.project, run.spec, hold_out.rows[features], run.trained.label_mean)
        subject = Subject(run.project, run.spec, features)
        report = evaluate_predictions(subject, hold_out, tuning, guess, _known_repeats(run))
        for name, reason in report.left_out.items():
            logger.warning("metric %s is left out: %s", name, reason)
        run.log_metrics(_logged(report))
        if run.spec.evaluation.costs is not None and report.threshold is not None:
            client.set_tag(run_id, THRESHOLD_TAG, f"{report.threshold.threshold:.6g}")
        with run.artifacts() as folder:
            (folder / FOLDER).mkdir()
            (folder / REPORT).write_text(dataclass_json(report), encoding="utf-8")
            slice_table(run, report).to_csv(folder / FOLDER / "slices.csv", index=False)
            worst_table(report).to_csv(folder / FOLDER / "worst_slices.csv", index=False)
            save_plots(folder / "plots", run.spec, hold_out.usable(), tuning.usable(), report)
        return _summary(run_id, report)


def read_report(run: TrainingRun) -> EvaluationReport:
    """The report of a run. Raises TrainingError where it is not evaluated yet, or no metric is defined."""
    report = _found_report(run)
    if report is None:
        raise TrainingError(f"run {run.run.info.run_id} of {run.name} has no hold-out metrics: evaluate it first")
    if not report.metrics:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.left_out.items())
        raise TrainingError(
            f"run {run.run.info.run_id} of {run.name} promises nothing, for no metric has a value: {reasons}"
        )
    return report


def slice_table(run: TrainingRun, report: EvaluationReport) -> "pd.DataFrame":
    """Columns: slice, column, value, rows, label_mean, prediction_mean, each metric with _low and _high, reason."""
    import pandas as pd

    names = reported_metrics(run.spec)
    wide = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    lines = []
    for one in report.slices:
        bounds = {
            f"{name}_{end}": getattr(found, end) for name, found in one.intervals.items() for end in ("low", "high")
        }
        lines.append({
            "slice": one.name, "column": one.column, "value": one.value, "rows": one.rows,
            "label_mean": one.label_mean, "prediction_mean": one.prediction_mean, **one.metrics, **bounds,
            "reason": one.reason,
        })  # fmt: skip
    common = ["slice", "column", "value", "rows", "label_mean", "prediction_mean"]
    return pd.DataFrame(lines, columns=[*common, *wide, "reason"])


def worst_table(report: EvaluationReport) -> "pd.DataFrame":
    """Columns: slice, rows, bias, loss, excess, at_least, is_certain; the worst first."""
    import pandas as pd

    columns = ["name", "rows", "bias", "loss", "excess", "at_least", "is_certain"]
    table = pd.DataFrame([[getattr(one, name) for name in columns] for one in report.worst.found], columns=columns)
    return table.rename(columns={"name": "slice"})


def _found_report(run: TrainingRun) -> EvaluationReport | None:
    from mlflow.artifacts import load_dict
    from pydantic import ValidationError

    if FOLDER not in run.artifact_names():
        return None
    try:
        return EvaluationReport.from_dict(load_dict(f"runs:/{run.run.info.run_id}/{REPORT}"))
    except ValidationError:  # of another version of Penstock
        return None


def _known_repeats(run: TrainingRun) -> dict[str, int]:
    """How many resamples an earlier evaluation of this run took, so that a repeat gives the same intervals."""
    found = _found_report(run)
    return {name: interval.repeats for name, interval in found.intervals.items()} if found else {}


def _logged(report: EvaluationReport) -> dict[str, float]:
    values: dict[str, float] = {
        **report.metrics,
        **{f"{HEURISTIC_PREFIX}{name}": value for name, value in report.heuristic.items()},
    }
    for name, found in report.intervals.items():
        values |= {f"{INTERVAL_PREFIX}{end}_{name}": getattr(found, end) for end in ("low", "high")}
    if report.calibration is not None:
        values[f"{CALIBRATION_PREFIX}error"] = report.calibration.expected_error
        values[f"{CALIBRATION_PREFIX}bias"] = report.calibration.bias
    if report.threshold is not None:
        values[f"{THRESHOLD_PREFIX}value"] = report.threshold.threshold
        if report.threshold.cost is not None:
            values[f"{THRESHOLD_PREFIX}cost"] = report.threshold.cost
    return values


def _summary(run_id: str, report: EvaluationReport) -> EvaluatedModel:
    certain = next((one for one in report.worst.found if one.is_certain), None)
    return EvaluatedModel(
        run_id=run_id,
        rows=report.rows,
        metrics=report.metrics,
        intervals={name: (found.low, found.high) for name, found in report.intervals.items()},
        heuristic=report.heuristic,
        left_out=report.left_out,
        window=report.window,
        threshold=report.threshold.threshold if report.threshold else None,
        worst_slice=certain.name if certain else None,
    )
