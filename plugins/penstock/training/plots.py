"""The pictures of a run. Matplotlib's objects without pyplot: no state is shared between threads or tasks."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.spec.project import Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

BINS = 10
MOST_POINTS = 5_000
MOST_FEATURES = 20
_BLUE, _GREY = "#2b6cb0", "#a0aec0"


def save_plots(folder: Path, task: Task, label: "np.ndarray", prediction: "np.ndarray", title: str) -> list[Path]:
    """ROC, precision-recall and calibration of a classifier; predicted against actual of a regression.

    Curves that need both classes are left out where all labels are equal.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    if task is Task.REGRESSION:
        return [_draw(folder / "predicted_vs_actual.png", title, lambda axes: _actual(axes, label, prediction))]
    made = [_draw(folder / "calibration.png", title, lambda axes: _calibration(axes, label, prediction))]
    if len(np.unique(label)) > 1:
        made.append(_draw(folder / "roc.png", title, lambda axes: _roc(axes, label, prediction)))
        made.append(_draw(folder / "precision_recall.png", title, lambda axes: _recall(axes, label, prediction)))
    return made


def save_shap_summary(path: Path, values: "np.ndarray", features: "pd.DataFrame", unit: str, title: str) -> Path:
    """A beeswarm: a row for each of the most important features, a dot for each sampled prediction.

    values: (n, k) SHAP values in `unit`. features: the n rows, (n, k) prepared columns; a dot's colour is
    its value's rank (categories: the rank of their order), grey for null.
    """
    import numpy as np

    order = np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:MOST_FEATURES]

    def draw(axes: "Axes") -> None:
        for row, column in enumerate(reversed(order)):
            _swarm(axes, row, values[:, column], _ranks(features.iloc[:, column]))
        axes.set_yticks(range(len(order)), [features.columns[column] for column in reversed(order)])
        axes.axvline(0, color=_GREY, linewidth=0.8)
        axes.set_xlabel(f"SHAP value ({unit}); colour: the feature's value, blue low, red high, grey missing")

    return _draw(path, title, draw, height=1.2 + 0.32 * len(order))


def _draw(path: Path, title: str, draw: object, height: float = 4.5) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)  # type: ignore[operator]
    axes.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
    return path


def _roc(axes: "Axes", label: "np.ndarray", prediction: "np.ndarray") -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    false_alarms, hits, _ = roc_curve(label, prediction)
    axes.plot(false_alarms, hits, color=_BLUE, label=f"AUC {roc_auc_score(label, prediction):.4f}")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")


def _recall(axes: "Axes", label: "np.ndarray", prediction: "np.ndarray") -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, prediction)
    value = average_precision_score(label, prediction)
    axes.plot(recall, precision, color=_BLUE, label=f"average precision {value:.4f}")
    axes.axhline(label.mean(), color=_GREY, linestyle="--", label=f"share of positives {label.mean():.4f}")
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axes.legend(loc="upper right")


def _calibration(axes: "Axes", label: "np.ndarray", prediction: "np.ndarray") -> None:
    """Mean label against mean prediction in bins of equally many rows."""
    import numpy as np

    parts = [part for part in np.array_split(np.argsort(prediction, kind="stable"), BINS) if len(part)]
    said, happened = [prediction[part].mean() for part in parts], [label[part].mean() for part in parts]
    top = max(*said, *happened, 0.01) * 1.05
    axes.plot([0, top], [0, top], color=_GREY, linestyle="--")
    axes.plot(said, happened, color=_BLUE, marker="o")
    axes.set(xlabel=f"mean predicted probability ({BINS} bins of equal size)", ylabel="share of label 1")


def _actual(axes: "Axes", label: "np.ndarray", prediction: "np.ndarray") -> None:
    import numpy as np

    shown = evenly_spaced(len(label), MOST_POINTS)
    low, high = np.quantile(np.concatenate([label, prediction]), [0.001, 0.999])
    axes.plot([low, high], [low, high], color=_GREY, linestyle="--")
    axes.scatter(prediction[shown], label[shown], s=4, alpha=0.4, color=_BLUE, linewidths=0)
    axes.set(xlabel="predicted", ylabel="actual")


def evenly_spaced(count: int, most: int) -> "np.ndarray":
    """Positions of at most `most` of `count` rows, evenly spread: the same every time."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _ranks(column: "pd.Series") -> "np.ndarray":
    """Values as ranks from 0 to 1; NaN for null."""
    import pandas as pd

    numbers = column.cat.codes.where(column.notna()) if isinstance(column.dtype, pd.CategoricalDtype) else column
    return numbers.rank(method="average", pct=True).to_numpy(dtype="float64")


def _swarm(axes: "Axes", row: int, values: "np.ndarray", ranks: "np.ndarray") -> None:
    """Dots at their value, moved up and down by how many others are near."""
    import numpy as np

    spread = np.ptp(values) or 1.0
    bins = ((values - values.min()) / spread * 80).astype(int)
    heights = np.zeros(len(values))
    for found in np.unique(bins):
        members = np.flatnonzero(bins == found)
        steps = (np.arange(len(members)) + 1) // 2 * np.where(np.arange(len(members)) % 2, 1, -1)
        heights[members] = steps
    heights *= 0.4 / max(np.abs(heights).max(), 1)
    known = ~np.isnan(ranks)
    dots = {"s": 8, "linewidths": 0, "rasterized": True}
    axes.scatter(values[~known], row + heights[~known], color=_GREY, **dots)
    axes.scatter(values[known], row + heights[known], c=ranks[known], cmap="coolwarm", vmin=0, vmax=1, **dots)
