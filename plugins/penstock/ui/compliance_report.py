"""The compliance report of a version, with its distributions as bars."""

from dataclasses import dataclass
from typing import Any

from penstock.registry.compliance.report import checked_versions, read_report
from penstock.ui.faults import reading
from penstock.workspace import Workspace

WIDTH, HEIGHT = 360, 90
_HIDDEN = ("severity", "severity_by")


@dataclass(frozen=True)
class Bar:
    """A bin as a rectangle, with what it stands for."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """A series of the report, ready to be drawn."""

    name: str
    rows: int
    mean: float
    low: float
    high: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class ComplianceReport:
    """A version's report: facts, checks (with severity and further evidence), distributions."""

    version: int
    as_of: str
    run: str
    outcome: str
    checks: tuple[dict[str, Any], ...]
    histograms: tuple[Histogram, ...]


def compliance_report(workspace: Workspace, project: str, model: str, version: int) -> ComplianceReport | None:
    """The report of a version; None where it was never checked. Raises Unreadable."""
    with reading(f"the compliance report of version {version}"):
        found = read_report(workspace, project, model, version)
        if found is None:
            return None
        return ComplianceReport(
            version=found["version"], as_of=found["as_of"], run=found["run"], outcome=found["verdict"]["outcome"],
            checks=tuple(_check(item) for item in found["verdict"]["checks"]),
            histograms=tuple(_histograms(found.get("distribution"))),
        )  # fmt: skip


def reported_versions(workspace: Workspace, project: str, model: str) -> list[int]:
    """The versions that have a report, newest first. Raises Unreadable."""
    with reading("the compliance reports"):
        return checked_versions(workspace, project, model)


def _check(item: dict[str, Any]) -> dict[str, Any]:
    evidence = item.get("evidence") or {}
    shown = {name: value for name, value in evidence.items() if name not in _HIDDEN and value not in (None, [], {})}
    severity, by = evidence.get("severity", ""), evidence.get("severity_by", "")
    return {**item, "severity": severity, "severity_by": by, "shown": shown}


def _histograms(found: dict[str, Any] | None) -> list[Histogram]:
    if not found:
        return []
    edges = found["edges"]
    slot = WIDTH / (len(edges) - 1)
    drawn = []
    for series in found["series"]:
        top = max([*series["shares"], 1e-9])
        bars = tuple(
            Bar(n * slot + 0.5, HEIGHT * (1 - share / top), slot - 1, HEIGHT * share / top,
                f"{edges[n]:.4g} to {edges[n + 1]:.4g}: {share:.1%}")
            for n, share in enumerate(series["shares"])
        )  # fmt: skip
        drawn.append(Histogram(series["name"], series["rows"], series["mean"], edges[0], edges[-1], bars))
    return drawn
