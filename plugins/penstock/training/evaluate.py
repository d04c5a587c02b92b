"""Measures a candidate on its hold-out block: metrics, beside the heuristic's, by slice, with plots."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.project import ColumnType
from penstock.training.blocks import LABEL, PREDICTION_TIME
from penstock.training.heuristic import heuristic_predictions
from penstock.training.metrics import evaluate_metrics
from penstock.training.plots import save_plots
from penstock.training.runs import TrainingRun, dataclass_json, open_run, tracking
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

HEURISTIC_PREFIX = "heuristic_"
MOST_SLICES = 20
_SLICED_TYPES = {ColumnType.STRING, ColumnType.BOOLEAN}


@dataclass(frozen=True)
class Evaluation:
    """What a model reaches on `rows` rows that it has not seen: JSON values.

    metrics: what it promises. heuristic: what `promotion.heuristic` reaches on the same rows. left_out:
    metrics that these rows do not define, with the reason. window: first and last prediction time.
    """

    run_id: str
    rows: int
    metrics: dict[str, float]
    heuristic: dict[str, float]
    left_out: dict[str, str]
    window: tuple[str, str]


def evaluate_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> Evaluation:
    """Adds hold-out metrics, evaluation/slices.csv and plots to a training run; a repeat replaces them.

    Metrics are logged by their plain names, those of the heuristic with the prefix `heuristic_`.
    Raises TrainingError for an unknown or unfinished run, ServiceError where MLflow does not answer.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        rows = run.split.hold_out
        label = rows[LABEL].to_numpy(dtype="float64")
        prediction = run.scorer.predict(rows)
        guess = heuristic_predictions(run.project, run.spec, rows[run.scorer.columns.names], run.trained.label_mean)
        reached = evaluate_metrics(run.project, run.spec, label, prediction)
        found = Evaluation(
            run_id=run_id,
            rows=len(rows),
            metrics=reached.values,
            heuristic=evaluate_metrics(run.project, run.spec, label, guess).values,
            left_out=reached.left_out,
            window=time_window(rows),
        )
        run.log_metrics(
            {**found.metrics, **{f"{HEURISTIC_PREFIX}{name}": value for name, value in found.heuristic.items()}}
        )
        with run.artifacts() as folder:
            (folder / "evaluation").mkdir()
            (folder / "evaluation" / "hold_out.json").write_text(dataclass_json(found), encoding="utf-8")
            slices(run, rows, prediction).to_csv(folder / "evaluation" / "slices.csv", index=False)
            save_plots(folder / "plots", run.spec.training.task, label, prediction, run.name)
        return found


def slices(run: TrainingRun, rows: "pd.DataFrame", prediction: "np.ndarray") -> "pd.DataFrame":
    """Metrics for each value of each string or boolean feature with at most 20 values.

    Columns: feature, value (empty for null), rows, label_mean, prediction_mean, and the model's metrics
    (empty where the slice does not define one).
    """
    import pandas as pd

    names = sorted({run.spec.training.metric, run.spec.promotion.metric, *run.spec.training.metrics})
    lines = []
    for feature in run.scorer.columns.features:
        column = rows[feature.name]
        if feature.type not in _SLICED_TYPES or column.nunique(dropna=False) > MOST_SLICES:
            continue
        for value in sorted(column.unique(), key=lambda item: "" if pd.isna(item) else str(item)):
            chosen = (column.isna() if pd.isna(value) else column == value).to_numpy(dtype=bool)
            label = rows[LABEL].to_numpy(dtype="float64")[chosen]
            reached = evaluate_metrics(run.project, run.spec, label, prediction[chosen], names)
            lines.append({
                "feature": feature.name, "value": None if pd.isna(value) else value, "rows": len(label),
                "label_mean": label.mean(), "prediction_mean": prediction[chosen].mean(), **reached.values,
            })  # fmt: skip
    return pd.DataFrame(lines, columns=["feature", "value", "rows", "label_mean", "prediction_mean", *names])


def time_window(rows: "pd.DataFrame") -> tuple[str, str]:
    """The first and last prediction time of rows that are sorted by it, ISO 8601 UTC."""
    from penstock.clock import to_text

    times = rows[PREDICTION_TIME]
    return to_text(times.iloc[0].to_pydatetime()), to_text(times.iloc[-1].to_pydatetime())
