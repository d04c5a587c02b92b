"""The profile that later drift checks compare with: training features, hold-out predictions, promised metrics."""

import json
from dataclasses import dataclass

from penstock.profiles import build_profile
from penstock.training.evaluate import read_report
from penstock.training.evaluation import time_window
from penstock.training.noted_files import PROFILE, note_file
from penstock.training.origins import OriginKind
from penstock.training.runs import open_run, tracking
from penstock.workspace import Workspace


@dataclass(frozen=True)
class ProfiledModel:
    """A run whose profile.json covers `rows` rows of `columns` features."""

    run_id: str
    rows: int
    columns: int
    metrics: dict[str, float]
    window: tuple[str, str]


def profile_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> ProfiledModel:
    """Adds profile.json to an evaluated run; a repeat replaces it.

    Columns are profiled on the training block, as raw as the lakehouse has them; the prediction on the
    hold-out block, where the model is as sure as it will be in use (on rows that it learned from it is surer).
    Raises TrainingError for an unknown run, or one that is not evaluated yet.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        promised = read_report(run).metrics
        columns, rows = run.scorer.columns, run.split.training
        window = time_window(rows)
        made = build_profile(
            rows[columns.names],
            categorical=columns.categorical,
            prediction=run.scorer.predict(run.split.hold_out),
            metrics=promised,
            window=window,
        )
        note_file(workspace, run.trained, OriginKind.PROFILE, json.loads(made.to_json()))
        with run.artifacts() as folder:
            made.save(folder / PROFILE)
        return ProfiledModel(run_id, made.rows, len(made.columns), promised, window)
