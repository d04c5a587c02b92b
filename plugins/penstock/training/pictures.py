"""How a picture of a run is drawn: Matplotlib's objects without pyplot, so no state is shared between tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

BLUE, GREY, RED, LIGHT = "#2b6cb0", "#718096", "#c53030", "#cbd5e0"
_DPI = 110
_STYLE = {
    "font.size": 9.5, "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#edf2f7", "legend.frameon": False, "xtick.color": "#4a5568", "ytick.color": "#4a5568",
}  # fmt: skip


def draw(path: Path, title: str, paint: "Callable[[Axes], None]", *, width: float = 6.4, height: float = 4.2) -> Path:
    """A picture with one pair of axes, as PNG. `paint` gets the axes; width and height are inches."""
    return draw_several(path, title, [paint], width=width, height=height)


def draw_several(
    path: Path, title: str, paints: "list[Callable[[Axes], None]]", *, width: float, height: float,
    ratios: list[float] | None = None, stacked: bool = False,
) -> Path:  # fmt: skip
    """A picture with several axes side by side, or one above the other; ratios of their sizes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        shape = (len(paints), 1) if stacked else (1, len(paints))
        sizes = {"height_ratios" if stacked else "width_ratios": ratios}
        grid = figure.subplots(*shape, squeeze=False, gridspec_kw={k: v for k, v in sizes.items() if v})
        for axes, paint in zip(grid.ravel(), paints, strict=True):
            paint(axes)
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
        figure.savefig(path)
    return path


def evenly_spaced(count: int, most: int) -> "np.ndarray":
    """Positions of at most `most` of `count` rows, evenly spread: the same every time."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def shorten(text: str, most: int = 44) -> str:
    """A name that fits beside an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
