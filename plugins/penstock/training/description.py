"""The description of a model version: Markdown for a person who decides whether to use it."""

from typing import TYPE_CHECKING

from penstock.spec.project import Task
from penstock.training.evaluation import time_window
from penstock.training.feature_spec import PATH_IN_MODEL
from penstock.training.metrics import is_lower_better, metric_names

if TYPE_CHECKING:
    from penstock.training.attribution import Attribution
    from penstock.training.evaluation import EvaluationReport
    from penstock.training.runs import TrainingRun

TOP_FEATURES = 10


def describe(run: "TrainingRun", explained: "Attribution", report: "EvaluationReport") -> str:
    """What the model predicts, from which data, how well, by which features, what it must not be used for."""
    sections = [_what(run), _data(run), _quality(run, report), _features(run, explained), _limits(run), _use(run)]
    return "\n\n".join(sections) + "\n"


def _what(run: "TrainingRun") -> str:
    spec, tags = run.spec, run.run.data.tags
    answer = "the probability that it is true" if spec.training.task is Task.CLASSIFICATION else "its expected value"
    return (
        f"# {run.name}\n\n{spec.description.strip()}\n\n"
        f"- Label: `{spec.label.name}` = `{spec.label.expression}` of {spec.label.table}; the model gives {answer}\n"
        f"- Asked for a row of {spec.entity.table} ({', '.join(spec.entity.keys)}), "
        f"at its {spec.entity.prediction_time}\n"
        f"- Owner: {spec.owner or run.project.spec.owner}\n"
        f"- Trained by: {tags.get('penstock.run')}, code {tags.get('penstock.code')}, "
        f"Penstock {tags.get('penstock.library')}, run {run.run.info.run_id}"
    )


def _data(run: "TrainingRun") -> str:
    trained = run.trained
    rows, kept = trained.rows, trained.training_set
    first, last = time_window(run.split.hold_out)
    tables = "\n".join(f"- {table}, version {version}" for table, version in sorted(kept.inputs.items()))
    return (
        f"## Data\n\nAs of {trained.as_of}: {kept.table}, version {kept.version}. {trained.rows_used} "
        f"The mean label of the training block is {trained.label_mean:.4f}.\n\n"
        f"| block | rows | prediction times |\n|---|---|---|\n"
        f"| train | {rows.training} | up to {trained.boundaries.tune_after} |\n"
        f"| tune | {rows.tuning} | up to {trained.trained_until} |\n"
        f"| hold out | {rows.hold_out} | {first} to {last} |\n\nMade from:\n\n{tables}"
    )


def _quality(run: "TrainingRun", report: "EvaluationReport") -> str:
    against = run.spec.promotion.heuristic or "always the mean label of the training block"
    lines = []
    for name in metric_names(run.spec):
        better = "lower" if is_lower_better(run.spec, name) else "higher"
        values = [report.metrics.get(name), report.heuristic.get(name)]
        mine, other = ("not defined" if value is None else f"{value:.4f}" for value in values)
        interval = report.intervals.get(name)
        bounds = f"{interval.low:.4f} to {interval.high:.4f}" if interval else "none"
        lines.append(f"| {name} | {mine} | {bounds} | {other} | {better} |")
    table = "\n".join(lines)
    return (
        f"## Quality on the held-out rows\n\nThe heuristic: {against}.\n\n"
        f"| metric | model | {report.confidence:.0%} interval | heuristic | better is |\n|---|---|---|---|---|\n{table}"
    )


def _features(run: "TrainingRun", explained: "Attribution") -> str:
    sources = {feature.name: feature.source for feature in run.scorer.columns.features}
    lines = "\n".join(
        f"| {row.feature} | {sources[row.feature]} | {row.mean_abs_shap:.4g} |"
        for row in explained.importance().head(TOP_FEATURES).itertuples()
    )
    return (
        f"## Features that move predictions most\n\n"
        f"Of {len(sources)} features; {explained.method} on {len(explained.features)} held-out rows, "
        f"in {explained.unit}. Picture: plots/shap_summary.png of the run.\n\n"
        f"| feature | from | mean absolute SHAP value |\n|---|---|---|\n{lines}"
    )


def _limits(run: "TrainingRun") -> str:
    declared = run.spec.limits.strip() or "None declared."
    return (
        f"## Limits\n\n{declared}\n\nA string value that the training block does not have counts as missing. "
        f"The model has seen nothing after {run.trained.trained_until}."
    )


def _use(run: "TrainingRun") -> str:
    return (
        f"## Use\n\n`mlflow.{run.spec.training.flavor}.load_model`; columns, types, categories and lookups are in "
        f"`{PATH_IN_MODEL}` of the model's folder. With Penstock: `penstock.training.scoring.load_scorer`."
    )
