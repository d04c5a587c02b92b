"""The pictures of an evaluation: curves, calibration, confusion, costs; residuals; a metric by slice."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.spec.project import Costs, Model, Task
from penstock.training.pictures import BLUE, GREY, LIGHT, RED, draw, draw_several, evenly_spaced, shorten
from penstock.training.threshold import Confusion, cost_curve

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from penstock.training.calibration import Calibration
    from penstock.training.evaluation import EvaluationReport, Predicted, SliceResult

_MOST_POINTS = 5_000
_MOST_SLICES = 40
_HISTOGRAM_BINS = 40


def save_plots(
    folder: Path, model: Model, hold_out: "Predicted", tuning: "Predicted", report: "EvaluationReport"
) -> list[Path]:
    """The pictures that usable rows (without nulls) allow, as <folder>/<name>.png.

    Classification: calibration, confusion, roc and precision_recall (where both classes occur), costs (where they
    are declared). Regression: predicted_vs_actual, residuals. Both: slices, of the metric that decides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not len(hold_out):
        return []
    label, prediction = hold_out.label, hold_out.prediction
    if model.training.task is Task.REGRESSION:
        made = [_predicted(folder, label, prediction), _residuals(folder, label, prediction)]
    else:
        made = _curves(folder, label, prediction) if label.min() < label.max() else []
        made += _probabilities(folder, model, hold_out, tuning, report)
    metric = model.promotion.metric
    shown = [one for one in report.slices if metric in one.metrics][:_MOST_SLICES]
    return [*made, _by_slice(folder, metric, shown, report)] if shown else made


def _probabilities(
    folder: Path, model: Model, hold_out: "Predicted", tuning: "Predicted", report: "EvaluationReport"
) -> list[Path]:
    made, costs = [], model.evaluation.costs
    if report.calibration is not None:
        made.append(_calibration(folder, report.calibration, hold_out.prediction))
    if report.threshold is not None:
        made.append(_confusion(folder, report.threshold.confusion, report.threshold.threshold, model.label.name))
        if costs is not None and len(tuning):
            made.append(_costs(folder, costs, hold_out, tuning, report.threshold.threshold))
    return made


def _curves(folder: Path, label: "np.ndarray", prediction: "np.ndarray") -> list[Path]:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    def roc(axes: "Axes") -> None:
        false_alarms, hits, _ = roc_curve(label, prediction)
        axes.plot(false_alarms, hits, color=BLUE, label=f"AUC {roc_auc_score(label, prediction):.4f}")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="by chance: 0.5")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        axes.legend(loc="lower right")

    def recall(axes: "Axes") -> None:
        precision, found, _ = precision_recall_curve(label, prediction)
        value = average_precision_score(label, prediction)
        axes.plot(found, precision, color=BLUE, label=f"average precision {value:.4f}")
        share = label.mean()
        axes.axhline(share, color=GREY, linestyle="--", linewidth=1, label=f"by chance: {share:.4f}")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper right")

    return [
        draw(folder / "roc.png", "ROC curve", roc, width=5.0, height=4.8),
        draw(folder / "precision_recall.png", "Precision and recall", recall),
    ]


def _calibration(folder: Path, found: "Calibration", prediction: "np.ndarray") -> Path:
    """Shares of label 1 with their intervals against mean predictions; below it, how often each is predicted."""
    import numpy as np

    said = np.array([one.prediction_mean for one in found.bins])
    happened = np.array([one.label_mean for one in found.bins])
    errors = [happened - [one.low for one in found.bins], [one.high for one in found.bins] - happened]
    top = min(1.0, 1.05 * max(0.05, said.max(), *(one.high for one in found.bins), np.quantile(prediction, 0.999)))

    def curve(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect")
        axes.errorbar(
            said, happened, yerr=np.abs(errors), color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.2,
            label=f"{len(found.bins)} bins of equal size, 95 % intervals",
        )  # fmt: skip
        axes.set(xlim=(0, top), ylim=(0, top), ylabel="share of label 1")
        axes.legend(loc="upper left")

    def histogram(axes: "Axes") -> None:
        axes.hist(prediction, bins=_HISTOGRAM_BINS, range=(0, top), color=LIGHT)
        axes.set(xlim=(0, top), xlabel="predicted probability", ylabel="rows")

    title = f"Calibration: expected error {found.expected_error:.4f}"
    return draw_several(
        folder / "calibration.png", title, [curve, histogram], width=5.6, height=5.4, ratios=[3, 1], stacked=True
    )


def _confusion(folder: Path, found: Confusion, threshold: float, label: str) -> Path:
    import numpy as np

    counts = np.array([
        [found.true_negatives, found.false_positives], [found.false_negatives, found.true_positives],
    ])  # fmt: skip
    names = [["true negatives", "false positives"], ["false negatives", "true positives"]]
    of_label = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def paint(axes: "Axes") -> None:
        axes.imshow(of_label, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts):
            share = of_label[row, column]
            axes.text(
                column, row, f"{count:,}\n{share:.1%} of this label\n{names[row][column]}", ha="center", va="center",
                color="white" if share > 0.5 else "black",
            )  # fmt: skip
        axes.set_xticks([0, 1], [f"below {threshold:.4g}", f"{threshold:.4g} and above"])
        axes.set_yticks([0, 1], [f"not {label}", label], rotation=90, va="center")
        axes.set(xlabel="prediction", ylabel="label")
        axes.grid(visible=False)

    return draw(folder / "confusion.png", f"Confusion at the threshold {threshold:.4g}", paint, width=5.0, height=3.8)


def _costs(folder: Path, costs: Costs, hold_out: "Predicted", tuning: "Predicted", chosen: float) -> Path:
    on_tuning, on_hold_out = (cost_curve(costs, part.label, part.prediction) for part in (tuning, hold_out))

    def paint(axes: "Axes") -> None:
        axes.plot(on_tuning.thresholds, on_tuning.costs, color=LIGHT, label="tuning block, which chose")
        axes.plot(on_hold_out.thresholds, on_hold_out.costs, color=BLUE, label="hold-out block")
        axes.axvline(chosen, color=RED, linestyle="--", linewidth=1, label=f"chosen: {chosen:.4g}")
        ratio = costs.false_positive / (costs.false_positive + costs.false_negative)
        axes.axvline(ratio, color=GREY, linestyle=":", linewidth=1, label=f"by the costs' ratio: {ratio:.4g}")
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="threshold", ylabel="mean cost of a row")
        axes.legend(loc="best")

    title = f"Cost by threshold: false positive {costs.false_positive:g}, false negative {costs.false_negative:g}"
    return draw(folder / "costs.png", title, paint)


def _predicted(folder: Path, label: "np.ndarray", prediction: "np.ndarray") -> Path:
    import numpy as np

    shown = evenly_spaced(len(label), _MOST_POINTS)

    def paint(axes: "Axes") -> None:
        low, high = np.quantile(np.concatenate([label, prediction]), [0.001, 0.999])
        margin = 0.03 * ((high - low) or 1.0)
        axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label="perfect")
        axes.scatter(prediction[shown], label[shown], s=5, alpha=_alpha(len(shown)), color=BLUE, linewidths=0)
        limits = (low - margin, high + margin)
        axes.set(xlabel="predicted", ylabel="actual", xlim=limits, ylim=limits, aspect="equal")
        axes.legend(loc="upper left")

    title = f"Actual against predicted ({len(shown):,} of {len(label):,} rows)"
    return draw(folder / "predicted_vs_actual.png", title, paint, width=5.0, height=4.8)


def _residuals(folder: Path, label: "np.ndarray", prediction: "np.ndarray") -> Path:
    """Predictions less labels, against the prediction, with their median and middle 80 %; and how often each occurs."""
    import numpy as np

    residual, shown = prediction - label, evenly_spaced(len(label), _MOST_POINTS)
    parts = [part for part in np.array_split(np.argsort(prediction, kind="stable"), 20) if len(part)]
    middles = [float(np.median(prediction[part])) for part in parts]
    low, middle, high = (np.array([np.quantile(residual[part], q) for part in parts]) for q in (0.1, 0.5, 0.9))
    limits = np.quantile(residual, [0.002, 0.998]) * 1.1 if len(residual) > 1 else None

    def cloud(axes: "Axes") -> None:
        axes.scatter(prediction[shown], residual[shown], s=5, alpha=_alpha(len(shown)), color=BLUE, linewidths=0)
        axes.fill_between(middles, low, high, color=LIGHT, alpha=0.45, label="middle 80 %", zorder=1.5)
        axes.plot(middles, middle, color=RED, linewidth=1.3, label="median")
        axes.axhline(0, color=GREY, linestyle="--", linewidth=1)
        axes.set(xlabel="predicted", ylabel="predicted less actual")
        if limits is not None and limits[0] < limits[1]:
            axes.set_ylim(limits)
        axes.legend(loc="best")

    def histogram(axes: "Axes") -> None:
        reach = tuple(limits) if limits is not None and limits[0] < limits[1] else None
        axes.hist(residual, bins=_HISTOGRAM_BINS, range=reach, color=LIGHT, orientation="horizontal")
        axes.axhline(0, color=GREY, linestyle="--", linewidth=1)
        axes.set(xlabel="rows", yticklabels=[])
        if reach is not None:
            axes.set_ylim(reach)

    return draw_several(folder / "residuals.png", "Residuals", [cloud, histogram], width=7.2, height=4.2, ratios=[3, 1])


def _by_slice(folder: Path, metric: str, shown: "Sequence[SliceResult]", report: "EvaluationReport") -> Path:
    """A metric of each slice with its interval, and a line where that of all rows is."""
    whole = report.metrics.get(metric)

    def paint(axes: "Axes") -> None:
        for row, one in enumerate(reversed(shown)):
            value, interval = one.metrics[metric], one.intervals.get(metric)
            if interval is not None:
                axes.plot([interval.low, interval.high], [row, row], color=GREY, linewidth=1.4, zorder=2)
            axes.plot([value], [row], "o", color=BLUE, markersize=5, zorder=3)
        if whole is not None:
            axes.axvline(whole, color=RED, linestyle="--", linewidth=1, label=f"all rows: {whole:.4g}")
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        names = [f"{shorten(one.name)}  ({one.rows:,})" for one in reversed(shown)]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set_xlabel(metric)
        axes.grid(visible=False, axis="y")

    title = f"{metric} by slice, with {report.confidence:.0%} intervals (rows)"
    return draw(folder / "slices.png", title, paint, width=7.2, height=1.3 + 0.24 * len(shown))


def _alpha(points: int) -> float:
    return 0.6 if points < 500 else 0.3
