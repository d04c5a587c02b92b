"""Charts as inline SVG: no script, no file beside the page, readable in light and dark."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _MARGIN = 360, 130, 26


def shares_chart(bins: Sequence[str], expected: Sequence[float], actual: Sequence[float]) -> str:
    """Two bars a bin: the share in training and in the window, with the figures as tooltips."""
    top = max([*expected, *actual, 1e-9])
    slot = (_WIDTH - _MARGIN) / max(len(bins), 1)
    height = _HEIGHT - _MARGIN
    parts = []
    for index, (name, before, after) in enumerate(zip(bins, expected, actual, strict=True)):
        left = _MARGIN + index * slot
        label = escape(f"{name}: {before:.1%} in training, {after:.1%} now")
        bars = "".join(
            f'<rect class="{kind}" x="{left + offset * slot:.1f}" y="{height - share / top * (height - 8):.1f}" '
            f'width="{slot * 0.4:.1f}" height="{share / top * (height - 8):.1f}"/>'
            for kind, share, offset in (("before", before, 0.05), ("after", after, 0.5))
        )
        parts.append(f"<g><title>{label}</title>{bars}</g>")
    ends = (escape(bins[0]), escape(bins[-1])) if bins else ("", "")
    return _svg(
        "".join(parts)
        + f'<text x="{_MARGIN}" y="{_HEIGHT - 10}">{ends[0]}</text>'
        + f'<text x="{_WIDTH}" y="{_HEIGHT - 10}" text-anchor="end">{ends[1]}</text>'
        + f'<text x="0" y="12">{top:.0%}</text>'
    )


def history_chart(
    values: Sequence[tuple[str, float]], threshold: float | None = None, baseline: float | None = None
) -> str:
    """A line over windows (label, value), with the threshold and the baseline as horizontal lines."""
    levels = [value for _, value in values] + [level for level in (threshold, baseline) if level is not None]
    low, high = min(levels), max(levels)
    spread = (high - low) or abs(high) or 1.0
    height = _HEIGHT - _MARGIN

    def y(value: float) -> float:
        return 8 + (high - value) / spread * (height - 16)

    step = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    points = [(_MARGIN + index * step, y(value)) for index, (_, value) in enumerate(values)]
    line = " ".join(f"{x:.1f},{at:.1f}" for x, at in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{at:.1f}" r="3"><title>{escape(label)}: {value:.4g}</title></circle>'
        for (x, at), (label, value) in zip(points, values, strict=True)
    )
    levels_drawn = "".join(
        f'<line class="{kind}" x1="{_MARGIN}" x2="{_WIDTH}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
        for kind, level in (("threshold", threshold), ("baseline", baseline))
        if level is not None
    )
    return _svg(
        f'{levels_drawn}<polyline points="{line}"/>{dots}'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 10}">{escape(values[0][0])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 10}" text-anchor="end">{escape(values[-1][0])}</text>'
    )


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">{content}</svg>'
