"""The sections of a model card, in Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.project import Task
from penstock.training.declared_rule import rule_text
from penstock.training.intervals import Interval
from penstock.training.markdown import code, table
from penstock.training.metrics import is_lower_better, metric_names

if TYPE_CHECKING:
    from penstock.training.evaluation import EvaluationReport, SliceResult
    from penstock.training.explain import Explanation
    from penstock.training.runs import TrainingRun

_MOST_SLICES = 60


@dataclass(frozen=True)
class Card:
    """What a card tells of. pictures: the files in plots/."""

    run: "TrainingRun"
    version: int | None
    report: "EvaluationReport"
    explanation: "Explanation"
    pictures: set[str]

    @property
    def title(self) -> str:
        """The model's name and version."""
        return f"{self.run.name}, version {self.version}" if self.version else f"{self.run.name}, not registered"

    @property
    def is_classification(self) -> bool:
        """Whether predictions are probabilities."""
        return self.run.spec.training.task is Task.CLASSIFICATION

    def picture(self, name: str, said: str) -> str:
        """A picture, if the run has it."""
        return f"![{said}](plots/{name}.png)" if f"{name}.png" in self.pictures else ""


def write_sections(card: Card) -> str:
    """The whole card."""
    sections = (
        _summary, _limits, _data, _quality, _threshold, _calibration, _residuals, _slices, _worst, _explanation,
        _gates, _record,
    )  # fmt: skip
    parts = [part for section in sections for part in section(card) if part]
    return "\n\n".join(parts) + "\n"


def _summary(card: Card) -> Iterator[str]:
    spec, trained = card.run.spec, card.run.trained
    yield f"# {card.title}"
    yield spec.description.strip()
    answer = "the probability that it is true" if card.is_classification else "its expected value"
    yield "\n".join([
        f"- **Label:** {spec.label.name}, {code(spec.label.expression)} of {code(spec.label.table)}; the model gives "
        f"{answer}.",
        f"- **Asked for:** a row of {code(spec.entity.table)} ({', '.join(map(code, spec.entity.keys))}), at its "
        f"{code(spec.entity.prediction_time)}.",
        f"- **Owner:** {spec.owner or card.run.project.spec.owner}",
        f"- **As of:** {trained.as_of}; the model has seen nothing after {trained.trained_until}.",
        f"- **Promises:** {_promise(card)}",
    ])  # fmt: skip


def _promise(card: Card) -> str:
    name = card.run.spec.promotion.metric
    value, other = card.report.metrics.get(name), card.report.heuristic.get(name)
    if value is None:
        return f"no {name}: {card.report.left_out.get(name, 'it is not defined')}"
    interval = card.report.intervals.get(name)
    around = f" ({_interval(interval)} with {card.report.confidence:.0%} confidence)" if interval else ""
    against = f", against {_figure(other)} of the heuristic" if other is not None else ""
    return f"{name} {_figure(value)}{around} on {card.report.rows:,} rows that it has not seen{against}."


def _limits(card: Card) -> Iterator[str]:
    yield "## Limits"
    yield card.run.spec.limits.strip() or "None are declared (`limits` of the model)."
    yield (
        "A text that the training block does not have counts as missing. Figures below are of "
        f"{card.report.window[0]} to {card.report.window[1]}: other times may differ."
    )
    if card.report.notes:
        yield "\n".join(f"> {note}" for note in card.report.notes)


def _data(card: Card) -> Iterator[str]:
    trained = card.run.trained
    rows, kept = trained.rows, trained.training_set
    yield "## Data"
    yield (
        f"Training set {code(f'{kept.table}@{kept.version}')}, as of {trained.as_of}: features as of each prediction "
        f"time, labels known by then. {trained.rows_used} The mean label of the training block is "
        f"{trained.label_mean:.4f}."
    )
    first, last = card.report.window
    yield table(
        ["block", "rows", "prediction times"],
        [
            ["train", f"{rows.training:,}", f"up to {trained.boundaries.tune_after}"],
            ["tune", f"{rows.tuning:,}", f"up to {trained.trained_until}"],
            ["hold out", f"{rows.hold_out:,}", f"{first} to {last}"],
        ],
        ".r.",
    )
    yield "Made from:"
    yield table(["table", "version"], [[code(name), number] for name, number in sorted(kept.inputs.items())], ".r")


def _quality(card: Card) -> Iterator[str]:
    spec, report = card.run.spec, card.report
    yield "## Quality"
    yield (
        f"On the hold-out block. The heuristic: {spec.promotion.heuristic or 'always the mean training label'}. "
        f"Intervals: {report.confidence:.0%}, by a bootstrap that draws from {report.drawn}."
    )
    yield table(
        ["metric", "model", "interval", "heuristic", "better is"],
        [
            [
                name, _figure(report.metrics.get(name)), _interval(report.intervals.get(name)),
                _figure(report.heuristic.get(name)), "lower" if is_lower_better(spec, name) else "higher",
            ]
            for name in metric_names(spec)
        ],
        ".rrr",
    )  # fmt: skip
    missing = [f"- {name} is not defined: {reason}" for name, reason in report.left_out.items()]
    missing += [f"- {name} has no interval: {reason}" for name, reason in report.no_interval.items()]
    full = card.run.spec.evaluation.bootstrap_repeats
    missing += [
        f"- the interval of {name} is of {interval.repeats} resamples, not {full}: the metric is slow"
        for name, interval in report.intervals.items() if interval.repeats < full
    ]  # fmt: skip
    yield "\n".join(missing)
    yield "\n".join(filter(None, [
        card.picture("roc", "ROC curve"), card.picture("precision_recall", "precision and recall"),
    ]))  # fmt: skip


def _threshold(card: Card) -> Iterator[str]:
    found, costs = card.report.threshold, card.run.spec.evaluation.costs
    if found is None:
        return
    yield "## Threshold"
    if found.cost is None or costs is None:
        yield f"{_figure(found.threshold)}: no costs are declared (`evaluation.costs`)."
    else:
        yield (
            f"A false positive costs {costs.false_positive:g}, a false negative {costs.false_negative:g}. "
            f"The threshold **{_figure(found.threshold)}** costs least on the tuning block. On the hold-out block it "
            f"costs **{_figure(found.cost)}** a row; the threshold of the costs' ratio, "
            f"{_figure(costs.false_positive / (costs.false_positive + costs.false_negative))}, "
            f"{_figure(found.cost_at_ratio)}; the one that would have been best there, {_figure(found.cost_at_best)}."
        )
    yield f"Precision {_figure(found.precision)}, recall {_figure(found.recall)}."
    yield "\n".join(filter(None, [
        card.picture("confusion", "confusion"), card.picture("costs", "cost by threshold"),
    ]))  # fmt: skip


def _calibration(card: Card) -> Iterator[str]:
    found = card.report.calibration
    if found is None:
        return
    yield "## Calibration"
    yield (
        f"Predictions are off by {found.expected_error:.4f} on average (expected calibration error over "
        f"{len(found.bins)} bins of equal size), and {_direction(found.bias)}."
    )
    yield table(
        ["Brier score", "reliability (0 is best)", "resolution (more is better)", "uncertainty", "within bins"],
        [[f"{value:.4f}" for value in (
            found.brier_score, found.reliability, found.resolution, found.uncertainty, found.within_bins
        )]],
        "rrrrr",
    )  # fmt: skip
    yield "The Brier score is reliability − resolution + uncertainty + within bins."
    yield card.picture("calibration", "calibration")


def _direction(bias: float) -> str:
    if abs(bias) < 0.00005:
        return "neither too high nor too low overall"
    return f"{abs(bias):.4f} too {'high' if bias > 0 else 'low'} overall"


def _residuals(card: Card) -> Iterator[str]:
    found = card.report.residual_quantiles
    if not found:
        return
    yield "## Residuals"
    yield "Predicted less actual, by quantile:"
    yield table(list(found), [[_figure(value) for value in found.values()]], "r" * len(found))
    yield "\n".join(filter(None, [
        card.picture("predicted_vs_actual", "actual against predicted"), card.picture("residuals", "residuals"),
    ]))  # fmt: skip


def _slices(card: Card) -> Iterator[str]:
    slices = card.report.slices
    yield "## Slices"
    if not slices:
        yield "None are declared (`evaluation.slices`), and no feature is a text or boolean of few values."
        return
    metric = card.run.spec.promotion.metric
    yield f"{metric} with {card.report.confidence:.0%} intervals; all rows: {_figure(card.report.metrics.get(metric))}."
    yield card.picture("slices", f"{metric} by slice")
    yield table(
        ["slice", "rows", "mean label", "mean prediction", metric, "interval"],
        [_slice(one, metric) for one in slices[:_MOST_SLICES]], ".rrrrr",
    )  # fmt: skip
    if len(slices) > _MOST_SLICES:
        yield f"{len(slices) - _MOST_SLICES} more, and the other metrics, are in `evaluation/slices.csv` of the run."
    else:
        yield "Other metrics are in `evaluation/slices.csv` of the run."
    yield "\n".join(f"- {code(one.name)}: {one.reason}" for one in slices[:_MOST_SLICES] if one.reason)


def _slice(one: "SliceResult", metric: str) -> list[str]:
    value = _figure(one.metrics[metric]) if metric in one.metrics else "not judged"
    return [
        code(one.name), f"{one.rows:,}", _figure(one.label_mean), _figure(one.prediction_mean), value,
        _interval(one.intervals.get(metric)),
    ]  # fmt: skip


def _worst(card: Card) -> Iterator[str]:
    search = card.report.worst
    yield "## Where the model is worst"
    if search.reason:
        yield f"Not searched: {search.reason}."
        return
    loss = "squared error" if card.report.searched_by == "rmse" else card.report.searched_by
    certain = sum(one.is_certain for one in search.found)
    verdict = (
        f"{certain} of those below are worse than the other rows beyond what chance explains."
        if certain
        else "None is worse than the other rows beyond what chance explains."
    )
    yield (
        f"Of {search.tried:,} slices by one or two features, ordered by how much greater their {loss} is at least "
        f"(a bound that holds for all of them at once with {card.report.confidence:.0%} confidence). {verdict} "
        "A greater loss may also mean that these rows are harder for anybody; a bias (mean prediction less mean "
        "label) means that the model is wrong about them as a whole."
    )
    yield table(
        ["slice", "rows", "bias", "mean loss", "more than the others", "at least", "beyond chance"],
        [
            [
                code(one.name), f"{one.rows:,}", f"{one.bias:+.3g}", _figure(one.loss), _figure(one.excess),
                _figure(one.at_least), "yes" if one.is_certain else "no",
            ]
            for one in search.found
        ],
        ".rrrrr",
    )  # fmt: skip


def _explanation(card: Card) -> Iterator[str]:
    found = card.explanation
    yield "## What moves predictions"
    yield (
        f"The first {len(found.top_features)} of {found.features} features by mean absolute SHAP value "
        f"({found.unit}); {found.method}, on {found.rows:,} hold-out rows. This is how the model uses features, "
        "not what causes the label."
    )
    yield table(
        ["feature", "from", "mean absolute SHAP value"],
        [[code(name), code(found.sources[name]), _figure(value)] for name, value in found.top_features.items()],
        "..r",
    )
    yield card.picture("shap_summary", "SHAP values of single predictions")


def _gates(card: Card) -> Iterator[str]:
    yield "## How it may reach production"
    yield rule_text(card.run.spec)


def _record(card: Card) -> Iterator[str]:
    run, tags = card.run, card.run.run.data.tags
    yield "## Record"
    facts = {
        "MLflow run": run.run.info.run_id,
        "made by": tags.get("penstock.run"),
        "code": tags.get("penstock.code"),
        "Penstock": tags.get("penstock.library"),
        "flavour": run.spec.training.flavor,
        "function": run.spec.training.function,
        "seed": run.spec.training.seed,
    }
    yield table(["what", "value"], [[name, code(value)] for name, value in facts.items() if value not in (None, "")])
    yield table(["parameter", "value"], [[code(name), code(value)] for name, value in run.trained.parameters.items()])


def _interval(found: Interval | None) -> str:
    return f"{_figure(found.low)} to {_figure(found.high)}" if found else "–"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:#.4g}".rstrip(".")
