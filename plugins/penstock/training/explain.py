"""Explains a candidate: a SHAP picture, feature importances, and a description in plain text."""

from dataclasses import dataclass

from penstock.training.attribution import attribute
from penstock.training.description import TOP_FEATURES, describe
from penstock.training.errors import TrainingError
from penstock.training.metrics import metric_names
from penstock.training.plots import save_shap_summary
from penstock.training.runs import open_run, tracking
from penstock.workspace import Workspace

DESCRIPTION = "description.md"


@dataclass(frozen=True)
class Explanation:
    """Which features move predictions most (mean absolute SHAP value, greatest first), by which method."""

    run_id: str
    method: str
    unit: str
    top_features: dict[str, float]


def explain_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> Explanation:
    """Adds plots/shap_summary.png, importance.csv and description.md to an evaluated run; a repeat replaces them.

    Raises TrainingError for an unknown run, or one that is not evaluated yet.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        if not set(metric_names(run.spec)) & set(run.run.data.metrics):
            raise TrainingError(f"run {run_id} of {run.name} has no hold-out metrics: evaluate it first")
        scorer = run.scorer
        features = scorer.prepare(run.split.hold_out)
        explained = attribute(scorer.native_model, features, scorer.task, run.spec.training.seed)
        importance = explained.importance()
        with run.artifacts() as folder:
            (folder / "plots").mkdir()
            save_shap_summary(
                folder / "plots" / "shap_summary.png", explained.values, explained.features, explained.unit, run.name
            )
            importance.to_csv(folder / "importance.csv", index=False)
            (folder / DESCRIPTION).write_text(describe(run, explained), encoding="utf-8")
        top = importance.head(TOP_FEATURES)
        return Explanation(
            run_id, explained.method, explained.unit,
            {str(name): float(value) for name, value in zip(top["feature"], top["mean_abs_shap"], strict=True)},
        )  # fmt: skip
