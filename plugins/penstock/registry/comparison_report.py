"""What a comparison leaves for people: its picture and its text in the candidate's run, and the text of a request."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.gates import Check, Outcome, Verdict
from penstock.registry.forest import draw_forest

if TYPE_CHECKING:
    from penstock.registry.contest import Contest

FOLDER = "comparison"
PICTURE = "picture"
"""The name of the check that says where the picture is."""


def keep_report(contest: "Contest", verdict: Verdict, rows: Sequence[Mapping[str, Any]]) -> Verdict:
    """Stores picture and text as artifacts of the candidate's run; answers the verdict with where the picture is.

    A repeat replaces them. A version without a run (a model from elsewhere) gets none: its rows are in the table.
    """
    registered = contest.registered
    picture, run_id = draw_forest(rows, standalone=True), registered.run_id(registered.version(contest.candidate))
    if not picture or run_id is None:
        return verdict
    stem = to_text(contest.as_of).replace("-", "").replace(":", "")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{stem}.svg").write_text(picture, encoding="utf-8")
        (Path(folder) / f"{stem}.md").write_text(comparison_markdown(verdict) + "\n", encoding="utf-8")
        registered.log_files(run_id, Path(folder), FOLDER)
    path = f"{FOLDER}/{stem}.svg"
    drawn = Check(
        PICTURE, Outcome.PASS, f"drawn as {path} of the candidate's run {run_id}", {"run_id": run_id, "path": path}
    )
    return Verdict(verdict.gate, verdict.subject, (*verdict.checks, drawn))


def comparison_markdown(verdict: Verdict) -> str:
    """The verdict as Markdown, with tables of every difference that decided and of the slices."""
    parts = [verdict.to_markdown()]
    metrics = [check for check in verdict.checks if {"better_by", "lower", "method"} <= check.evidence.keys()]
    if metrics:
        parts.append(_table([_metric_line(check) for check in metrics]))
    for check in verdict.checks:
        slices = check.evidence.get("slices")
        if slices:
            rows = sorted(slices.items(), key=lambda item: item[1]["better_by"])
            parts.append(_table([(name, found, _below(found["margin"]), found["outcome"]) for name, found in rows]))
    return "\n\n".join(parts)


def _metric_line(check: Check) -> tuple[str, Mapping[str, Any], float | None, str]:
    found = check.evidence
    return f"{found['metric']} against {found['method']}", found, found.get("required_better_by"), str(check.outcome)


def _below(margin: float | None) -> float | None:
    return None if margin is None else -margin


def _table(rows: Sequence[tuple[str, Mapping[str, Any], float | None, str]]) -> str:
    lines = [
        "| | candidate | reference | better by | interval | required | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {name.replace('|', '/')} | {_figure(found['candidate'])} | {_figure(found['reference'])} "
        f"| {_figure(found['better_by'], '+')} | {_figure(found['lower'], '+')} to {_figure(found['upper'], '+')} "
        f"| {_figure(required, '+')} | {outcome} |"
        for name, found, required, outcome in rows
    ]
    return "\n".join(lines)


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4g}"
