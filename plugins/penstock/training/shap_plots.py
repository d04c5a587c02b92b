"""The pictures of an explanation: which features move predictions, and which way."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.training.pictures import BLUE, GREY, draw, shorten

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

MOST_FEATURES = 20


def save_importance(path: Path, importance: "pd.DataFrame", unit: str) -> Path:
    """Bars of the mean absolute SHAP values (columns feature and mean_abs_shap, the most important first)."""
    shown = importance.head(MOST_FEATURES).iloc[::-1]

    def paint(axes: "Axes") -> None:
        axes.barh(range(len(shown)), shown["mean_abs_shap"], color=BLUE, height=0.65)
        axes.set_yticks(range(len(shown)), [shorten(str(name), 32) for name in shown["feature"]])
        axes.set(xlabel=f"mean absolute SHAP value ({unit})", ylim=(-0.6, len(shown) - 0.4))
        axes.grid(visible=False, axis="y")

    return draw(path, _title("Importance", len(importance)), paint, height=1.1 + 0.26 * len(shown))


def save_shap_summary(path: Path, values: "np.ndarray", features: "pd.DataFrame", unit: str) -> Path:
    """A beeswarm: a row for each of the most important features, a dot for each sampled prediction.

    values: (n, k) SHAP values in `unit`. features: the n rows, (n, k) prepared columns; a dot's colour is
    its value's rank (categories: the rank of their order), grey for null.
    """
    import numpy as np

    order = np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:MOST_FEATURES]

    def paint(axes: "Axes") -> None:
        for row, column in enumerate(reversed(order)):
            _swarm(axes, row, values[:, column], _ranks(features.iloc[:, column]))
        axes.set_yticks(range(len(order)), [shorten(str(features.columns[place]), 32) for place in reversed(order)])
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set(xlabel=f"SHAP value ({unit}): to the right, the feature raised the prediction")
        axes.set_ylim(-0.7, len(order) - 0.3)
        _colour_scale(axes)

    return draw(path, _title("What moved each prediction", features.shape[1]), paint,
                width=7.2, height=1.3 + 0.32 * len(order))  # fmt: skip


def _title(text: str, count: int) -> str:
    return f"{text}: the first {MOST_FEATURES} of {count} features" if count > MOST_FEATURES else text


def _colour_scale(axes: "Axes") -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = axes.figure.colorbar(
        ScalarMappable(Normalize(0, 1), colormaps["coolwarm"]), ax=axes, fraction=0.025, pad=0.02, aspect=40
    )
    scale.set_ticks([0, 1], labels=["low", "high"])
    scale.set_label("the feature's value; grey: missing")
    scale.outline.set_visible(False)  # type: ignore[operator]


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
    axes.scatter(values[~known], row + heights[~known], color=GREY, **dots)
    axes.scatter(values[known], row + heights[known], c=ranks[known], cmap="coolwarm", vmin=0, vmax=1, **dots)
