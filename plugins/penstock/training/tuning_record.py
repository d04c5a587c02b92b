"""What a run says of its tuning: the chosen parameters, the course, every trial, and pictures."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.spec.names import TRIAL_PREFIX, TUNE_PREFIX
from penstock.spec.project import Model
from penstock.training.blocks import RowCounts
from penstock.training.metrics import is_lower_better
from penstock.training.study import Study
from penstock.training.trials import Trial, TrialState
from penstock.training.tuning import Budget, Tuned

if TYPE_CHECKING:
    from mlflow import MlflowClient

_COMPARABLE = 10  # trials with a value, from which on the weight of a parameter can be told


def log_tuning(client: "MlflowClient", run_id: str, spec: Model, rows: RowCounts, budget: Budget, tuned: Tuned) -> None:
    """The chosen parameters, `trial_<metric>` by trial, `tune_<metric>`, trials.csv, and pictures under tuning/."""
    import time

    import pandas as pd
    from mlflow.entities import Metric, Param

    training, moment = spec.training, int(time.time() * 1000)
    metrics = [
        Metric(f"{TRIAL_PREFIX}{training.metric}", trial.value, moment, trial.number)
        for trial in tuned.trials
        if trial.value is not None
    ]
    metrics.append(Metric(f"{TUNE_PREFIX}{training.metric}", float(tuned.best.value or 0.0), moment, 0))
    described = {
        **tuned.best.parameters,
        "training.function": training.function,
        "training.metric": training.metric,
        "training.seed": training.seed,
        "training.search": budget.kind,
        "training.trials": len(tuned.trials),
        "training.folds": training.folds,
        "training.rows": rows.training,
        "tuning.rows": rows.tuning,
        "hold_out.rows": rows.hold_out,
    }
    client.log_batch(run_id, metrics=metrics, params=[Param(name, str(value)) for name, value in described.items()])
    table = pd.DataFrame([_row(trial, training.metric) for trial in tuned.trials])
    client.log_text(run_id, table.to_csv(index=False), "trials.csv")
    if len(tuned.trials) > 1:
        _log_pictures(client, run_id, spec, tuned)


def _row(trial: Trial, metric: str) -> dict[str, Any]:
    by_fold = {f"fold_{number + 1}": value for number, value in enumerate(trial.folds)}
    return {
        "trial": trial.number + 1, metric: trial.value, "state": str(trial.state), "seconds": trial.seconds,
        **by_fold, **trial.parameters,
    }  # fmt: skip


def _log_pictures(client: "MlflowClient", run_id: str, spec: Model, tuned: Tuned) -> None:
    """The value of each trial in order; and, of enough of them, how much each parameter mattered."""
    with tempfile.TemporaryDirectory() as folder:
        _save_history(Path(folder, "history.png"), tuned, spec.training.metric)
        if len([trial for trial in tuned.trials if trial.value is not None]) >= _COMPARABLE and spec.training.search:
            _save_importance(Path(folder, "importance.png"), spec, tuned)
        client.log_artifacts(run_id, folder, "tuning")


def _save_history(file: Path, tuned: Tuned, metric: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    complete = [trial for trial in tuned.trials if trial.value is not None]
    axes.plot([trial.number + 1 for trial in complete], [trial.value for trial in complete], "o", label="trial")
    axes.axhline(float(tuned.best.value or 0.0), linestyle="--", label=f"chosen: trial {tuned.best.number + 1}")
    for trial in tuned.trials:
        if trial.state is TrialState.PRUNED:
            axes.axvline(trial.number + 1, color="0.85", zorder=0)
    axes.set(xlabel="trial (a grey line: given up early)", ylabel=metric, title="Course of tuning")
    axes.legend()
    figure.savefig(file, dpi=110)


def _save_importance(file: Path, spec: Model, tuned: Tuned) -> None:
    """Functional analysis of variance (Hutter, Hoos and Leyton-Brown, ICML 2014) of the value over the parameters."""
    import optuna
    from matplotlib.figure import Figure

    study = Study(spec.training, len(tuned.trials), is_lower_better(spec, spec.training.metric))
    for trial in tuned.trials:
        study.learn(trial)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=spec.training.seed)
    try:
        found = optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return  # all trials reached the same
    figure = Figure(figsize=(7, 1 + 0.4 * len(found)), layout="constrained")
    axes = figure.subplots()
    names = list(reversed(found))
    axes.barh(names, [found[name] for name in names])
    axes.set(xlabel="share of the variance that the parameter explains", title="What mattered in tuning")
    figure.savefig(file, dpi=110)
