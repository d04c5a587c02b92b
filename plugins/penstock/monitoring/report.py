"""The page of a window: alerts, figures and charts in one file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of
from penstock.monitoring.charts import history_chart, shares_chart
from penstock.monitoring.metric_rows import Distribution, Kind, MetricRow
from penstock.monitoring.windows import read_published
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from penstock.monitoring.publication import MonitoringReport

_TITLES = {
    Kind.QUALITY: "Quality", Kind.PREDICTION_DRIFT: "Drift of the prediction",
    Kind.FEATURE_DRIFT: "Drift of the features",
    Kind.MISSING: "Missing values", Kind.VOLUME: "Volume", Kind.FRESHNESS: "Freshness",
}  # fmt: skip
_WITH_HISTORY = (Kind.QUALITY, Kind.PREDICTION_DRIFT, Kind.VOLUME)
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1160px; margin: 2em auto; padding: 0 1em;
       color: #1d2733; background: #fff }
h1 { font-size: 1.5em } h2 { margin-top: 2em; font-size: 1.15em } h3 { font-size: 1em; margin: 0 0 .3em }
table { border-collapse: collapse } td, th { padding: .25em .8em; border-bottom: 1px solid #d9e0e7; text-align: right }
td:first-child, th:first-child, .text { text-align: left } .alert { color: #b3261e; font-weight: 600 }
.charts { display: flex; flex-wrap: wrap; gap: 1.4em } figure { margin: 0 }
svg text { font-size: 10px; fill: #5c6b7a } .before { fill: #a9b8c6 } .after { fill: #1f77b4 }
polyline { fill: none; stroke: #1f77b4; stroke-width: 2 } circle { fill: #1f77b4 }
line.threshold { stroke: #b3261e; stroke-dasharray: 4 3 } line.baseline { stroke: #8a99a8 }
@media (prefers-color-scheme: dark) { body { color: #dbe3ea; background: #14191f } td, th { border-color: #33404d } }
"""


def write_report(
    workspace: Workspace, report: "MonitoringReport", distributions: Sequence[Distribution]
) -> "MonitoringReport":
    """Writes the page of a report's window, and answers the report with its path.

    It lies beside the project's tables: `_reports/<model>/monitoring/<window end>.html`. The same window
    again overwrites it.
    """
    page = render(report, distributions, read_published(workspace, report.project, report.model))
    name = report.window[1].replace(":", "")
    folder = workspace.addresses.writable(f"{report.project}._reports")
    return replace(report, report=_write(f"{folder}/{report.model}/monitoring/{name}.html", page))


def render(report: "MonitoringReport", distributions: Sequence[Distribution], published: "pd.DataFrame") -> str:
    """The page as HTML. `published` are the model's rows of monitoring_metrics, for charts over time."""
    start, end = report.window
    current = [row for row in report.metrics if row.window_end == end]
    versions = ", ".join(map(str, report.baseline_versions))
    parts = [
        f"<h1>Monitoring of {escape(report.project)}.{escape(report.model)}</h1>",
        f"<p>Predictions with prediction time after {start} up to {end}, seen at {report.as_of}: "
        f"{report.rows:,} rows, {report.labelled_rows:,} with a label, by version {versions}.</p>",
        _alerts(report.alerts),
        _list("What could not be judged", report.notes),
        *(_section(kind, current, published, end) for kind in _TITLES),
        _distributions(distributions, current),
    ]
    title = escape(f"{report.project}.{report.model} up to {end}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _alerts(alerts: Sequence[MetricRow]) -> str:
    if not alerts:
        return "<h2>Alerts</h2><p>None.</p>"
    return _list("Alerts", [f"{row.message} (version {row.model_version}, {row.kind})" for row in alerts], "alert")


def _list(title: str, items: Sequence[str], css: str = "") -> str:
    if not items:
        return ""
    lines = "".join(f'<li class="{css}">{escape(item)}</li>' for item in items)
    return f"<h2>{title}</h2><ul>{lines}</ul>"


def _section(kind: Kind, rows: Sequence[MetricRow], published: "pd.DataFrame", end: str) -> str:
    chosen = [row for row in rows if row.kind == kind]
    if not chosen:
        return ""
    chosen.sort(key=lambda row: (not row.alert, -(row.value or 0.0) if kind is Kind.FEATURE_DRIFT else 0.0))
    lines = "".join(
        f"<tr{' class=' + chr(34) + 'alert' + chr(34) if row.alert else ''}><td>{escape(row.column or '-')}</td>"
        f'<td class="text">{escape(row.metric)}</td><td>{_figure(row.value)}</td><td>{_figure(row.baseline)}</td>'
        f"<td>{_figure(row.threshold)}</td><td>{row.model_version}</td></tr>"
        for row in chosen
    )
    figures = "".join(f"<th>{name}</th>" for name in ("value", "baseline", "threshold", "version"))
    head = f'<tr><th>about</th><th class="text">metric</th>{figures}</tr>'
    charts = _histories(kind, published, end) if kind in _WITH_HISTORY else ""
    return f"<h2>{_TITLES[kind]}</h2><table>{head}{lines}</table>{charts}"


def _histories(kind: Kind, published: "pd.DataFrame", end: str) -> str:
    """A chart for each metric of a kind that has a value in more than one window."""
    past = published[(published["kind"] == kind) & (published["window_end"] <= parse_as_of(end))]
    figures = []
    for metric, rows in past.dropna(subset=["value"]).sort_values(["window_end", "model_version"]).groupby("metric"):
        if rows["window_end"].nunique() < 2:
            continue
        last = rows.iloc[-1]
        points = [
            (f"{at:%Y-%m-%d} v{version}", float(value))
            for at, version, value in zip(rows["window_end"], rows["model_version"], rows["value"], strict=True)
        ]
        chart = history_chart(points, _number(last["threshold"]), _number(last["baseline"]))
        figures.append(f"<figure><h3>{escape(str(metric))}</h3>{chart}</figure>")
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _distributions(distributions: Sequence[Distribution], rows: Sequence[MetricRow]) -> str:
    drift = {
        (row.model_version, row.column): row.value or 0.0
        for row in rows
        if row.kind in (Kind.FEATURE_DRIFT, Kind.PREDICTION_DRIFT) and row.threshold is not None
    }
    ordered = sorted(
        distributions,
        key=lambda item: -drift.get((item.model_version, "" if item.column == "prediction" else item.column), 0.0),
    )
    figures = "".join(
        f"<figure><h3>{escape(item.column)} (version {item.model_version})</h3>"
        f"{shares_chart(item.bins, item.expected, item.actual)}</figure>"
        for item in ordered
    )
    if not figures:
        return ""
    return (
        "<h2>Distributions</h2><p>Share of the rows in each bin: grey in training, blue in this window; the columns "
        f'that drifted most come first.</p><div class="charts">{figures}</div>'
    )


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:.4g}"


def _number(value: object) -> float | None:
    import pandas as pd

    return None if pd.isna(value) else float(value)  # type: ignore[call-overload, arg-type]


def _write(path: str, page: str) -> str:
    """Writes a page where the lakehouse is: a local folder, or a store that Arrow can write to."""
    if "://" not in path:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
        return path
    from pyarrow.fs import FileSystem

    system, inner = FileSystem.from_uri(path)
    with system.open_output_stream(inner) as stream:
        stream.write(page.encode("utf-8"))
    return path
