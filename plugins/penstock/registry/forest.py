"""A comparison as a picture: each difference with its interval, metric by metric and slice by slice (a forest plot).

One scale for each metric, since a log loss and a cost have nothing in common; zero in the middle; the candidate
is better to the right, whichever direction the metric has. Plain SVG, so the pages need no drawing library.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.registry.methods import ALL_ROWS

Row = Mapping[str, Any]
LABELS, PLOT, FIGURES, LINE, MARGIN = 250, 300, 300, 22, 8  # pixels
_COLOURS = {"pass": "#2f855a", "warn": "#b7791f", "fail": "#c53030"}
_QUIET = "#718096"
_MOST_ROWS = 80


@dataclass(frozen=True)
class _Scale:
    """Figures from -limit to limit, as pixels."""

    limit: float

    def place(self, value: float) -> float:
        inside = min(max(value / self.limit, -1.0), 1.0)
        return LABELS + PLOT / 2 * (1 + inside)


def draw_forest(rows: Sequence[Row], *, standalone: bool = False) -> str:
    """The SVG of a comparison's rows (columns as in model_comparisons); empty where no row has an interval.

    standalone: as a file of its own, which names its namespace.
    """
    groups = _groups(rows)
    if not groups:
        return ""
    parts: list[str] = []
    top = MARGIN
    for (reference, metric), members in groups.items():
        parts += _heading(f"{metric} against {_named(reference, members)}", top)
        top += LINE
        scale = _scale(members)
        parts += _axis(scale, top, len(members), members[0].get("required_better_by"))
        for row in members:
            parts += _line(row, scale, top)
            top += LINE
        top += MARGIN
    width, height = LABELS + PLOT + FIGURES, top + MARGIN
    space = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    return (
        f'<svg{space} class="forest" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Differences with their intervals" font-family="sans-serif" font-size="12" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows with an interval, by reference and metric: production first, what decides first, all rows first."""
    known = [row for row in rows if row.get("lower") is not None and row.get("upper") is not None]
    known.sort(key=_order)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in known[:_MOST_ROWS]:
        found.setdefault((str(row["reference"]), str(row["metric"])), []).append(row)
    return found


def _order(row: Row) -> tuple[Any, ...]:
    decides = row.get("verdict") in _COLOURS
    of_slice = row["slice"] != ALL_ROWS
    return (row["reference"] != "production", not decides and not of_slice, row["metric"], of_slice, row["slice"])


def _scale(rows: Sequence[Row]) -> _Scale:
    ends = [abs(float(row[name])) for row in rows for name in ("lower", "upper", "required_better_by")
            if row.get(name) is not None]  # fmt: skip
    return _Scale(max([*ends, 1e-12]) * 1.05)


def _heading(text: str, top: float) -> Iterator[str]:
    yield f'<text x="0" y="{top + 15}" font-weight="bold">{html.escape(text)}</text>'


def _axis(scale: _Scale, top: float, count: int, required: float | None) -> Iterator[str]:
    bottom = top + count * LINE
    yield _rule(scale.place(0), top, bottom, _QUIET)
    if required:
        yield _rule(scale.place(required), top, bottom, _COLOURS["fail"], dashes=' stroke-dasharray="3 3"')


def _rule(x: float, top: float, bottom: float, colour: str, dashes: str = "") -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"{dashes}/>'


def _line(row: Row, scale: _Scale, top: float) -> Iterator[str]:
    middle, colour = top + LINE / 2, _COLOURS.get(str(row.get("verdict")), _QUIET)
    label = "all rows" if row["slice"] == ALL_ROWS else str(row["slice"])
    shown = label if len(label) <= 36 else f"{label[:35]}…"
    yield f'<text x="12" y="{middle + 4:.1f}"><title>{html.escape(label)}</title>{html.escape(shown)}</text>'
    low, high, point = (scale.place(float(row[name])) for name in ("lower", "upper", "better_by"))
    yield (
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{colour}" stroke-width="2"/>'
    )
    yield f'<circle cx="{point:.1f}" cy="{middle:.1f}" r="4" fill="{colour}"/>'
    figures = f"{row['better_by']:+.3g}  ({row['lower']:+.3g} to {row['upper']:+.3g}), {row['rows']:,} rows"
    yield f'<text x="{LABELS + PLOT + 12}" y="{middle + 4:.1f}" fill="{_QUIET}">{html.escape(figures)}</text>'


def _named(reference: str, rows: Sequence[Row]) -> str:
    version = rows[0].get("production_version")
    return f"version {version:.0f}" if reference == "production" and version is not None else f"the {reference}"
