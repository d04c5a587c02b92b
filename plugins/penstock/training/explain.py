"""Explains a candidate: a SHAP picture, feature importances, and a description in plain text."""

from dataclasses import dataclass

from penstock.training.attribution import Attribution, attribute
from penstock.training.description import TOP_FEATURES, describe
from penstock.training.evaluate import read_report
from penstock.training.runs import TrainingRun, dataclass_json, open_run, tracking
from penstock.training.shap_plots import save_importance, save_shap_summary
from penstock.workspace import Workspace

DESCRIPTION = "description.md"
EXPLANATION = "explanation.json"


@dataclass(frozen=True)
class Explanation:
    """Which features move predictions most, by which method, on how many hold-out rows; kept as explanation.json.

    top_features: mean absolute SHAP value in `unit`, greatest first. sources: where these features come from.
    features: how many the model has.
    """

    run_id: str
    method: str
    unit: str
    rows: int
    features: int
    top_features: dict[str, float]
    sources: dict[str, str]


def explain_model(workspace: Workspace, project_name: str, model_name: str, run_id: str) -> Explanation:
    """Adds pictures of importance and SHAP values, importance.csv, explanation.json and description.md to a run.

    A repeat replaces them. Raises TrainingError for an unknown run, or one that is not evaluated yet.
    """
    with tracking(workspace) as client:
        run = open_run(workspace, client, project_name, model_name, run_id)
        report = read_report(run)
        scorer = run.scorer
        features = scorer.prepare(run.split.hold_out)
        explained = attribute(scorer.native_model, features, scorer.task, run.spec.training.seed)
        found = _explanation(run, explained)
        with run.artifacts() as folder:
            (folder / "plots").mkdir()
            save_shap_summary(
                folder / "plots" / "shap_summary.png", explained.values, explained.features, explained.unit
            )
            save_importance(folder / "plots" / "importance.png", explained.importance(), explained.unit)
            explained.importance().to_csv(folder / "importance.csv", index=False)
            (folder / EXPLANATION).write_text(dataclass_json(found), encoding="utf-8")
            (folder / DESCRIPTION).write_text(describe(run, explained, report), encoding="utf-8")
        return found


def _explanation(run: TrainingRun, explained: Attribution) -> Explanation:
    top = explained.importance().head(TOP_FEATURES)
    sources = {feature.name: feature.source for feature in run.scorer.columns.features}
    values = {str(name): float(value) for name, value in zip(top["feature"], top["mean_abs_shap"], strict=True)}
    return Explanation(
        run.run.info.run_id, explained.method, explained.unit, len(explained.features), len(sources), values,
        {name: sources[name] for name in values},
    )  # fmt: skip
