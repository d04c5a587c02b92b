"""What each monitored window since a promotion says of the promise."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.monitoring.metric_rows import Kind
from penstock.monitoring.windows import LABEL_COVERAGE
from penstock.registry.audit import DeploymentRow
from penstock.registry.history import PROMISED, taken_out
from penstock.spec.model import Model
from penstock.spec.promotion import FollowUp

if TYPE_CHECKING:
    import pandas as pd


class Outcome(StrEnum):
    """What is known of a window."""

    HELD = "held"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class JudgedWindow:
    """One window of the new version: its end, and what its labels say of the promise.

    without_value: metrics that were promised, and that the window has no value of. promised: whether there is any
    promise to hold it to.
    """

    end: datetime
    outcome: str
    detail: str
    rows: int
    labelled_rows: int
    without_value: tuple[str, ...] = ()
    promised: bool = True


def judge_windows(
    spec: Model, rule: FollowUp, promotions: Sequence[DeploymentRow], published: "pd.DataFrame", as_of: datetime
) -> tuple[JudgedWindow, ...]:
    """The windows since the last of the promotions, up to the last that counts."""
    if published.empty:
        return ()
    promotion = promotions[-1]
    mine = published[
        (published["model_version"] == promotion.version) & (published["kind"] == str(Kind.QUALITY))
        & (published["window_end"] > _watched_since(promotions)) & (published["as_of"] <= as_of)
    ]  # fmt: skip
    promised = {name for name, value in promotion.evidence.get(PROMISED, {}).items() if value is not None}
    found: list[JudgedWindow] = []
    for end, rows in mine.groupby("window_end", sort=True):
        if sum(one.outcome != Outcome.UNDECIDED for one in found) == rule.windows:
            break
        found.append(_judge_window(spec, rule, promised, end.to_pydatetime(), rows))
    return tuple(found)


def blind_windows(windows: tuple[JudgedWindow, ...], rule: FollowUp) -> list[JudgedWindow]:
    """Windows of which nobody will know: the first without a promise, or as many without a value as are looked at."""
    unpromised = [one for one in windows if not one.promised]
    without_value = [one for one in windows if one.without_value]
    return unpromised[:1] or (without_value[: rule.windows] if len(without_value) >= rule.windows else [])


def why_blind(blind: list[JudgedWindow]) -> str:
    """What such windows lack, as a sentence."""
    if not blind[0].promised:
        return blind[0].detail
    names = ", ".join(sorted({name for one in blind for name in one.without_value}))
    return f"{names} had no value in {len(blind)} windows: monitoring's notes say why"


def _watched_since(promotions: Sequence[DeploymentRow]) -> datetime:
    """The as_of after which windows count: that of the promotion, and of the last rollback of its version before.

    Who let the version come back knew the windows up to then. By the data's time, so that history that is replayed
    gives the same; when a window was published says nothing, since a repeat of monitoring publishes it anew.
    """
    *before, promotion = promotions
    rollbacks = [row.as_of for row in before if taken_out(row) == promotion.version]
    return max([promotion.as_of, *rollbacks[-1:]])


def _judge_window(spec: Model, rule: FollowUp, promised: set[str], end: datetime, rows: "pd.DataFrame") -> JudgedWindow:
    coverage = rows[rows["metric"] == LABEL_COVERAGE]
    total = int(coverage["rows"].max()) if len(coverage) else 0
    labelled = int(coverage["labelled_rows"].max()) if len(coverage) else 0
    least = spec.monitoring.minimum_rows
    if labelled < least or labelled < rule.labelled_share * total:
        detail = (
            f"{labelled} of {total} predictions have a label, wanted are {least} and a share of {rule.labelled_share:g}"
        )
        return JudgedWindow(end, Outcome.UNDECIDED, detail, total, labelled)
    ruled = {one.metric for one in spec.monitoring.quality}
    judged = rows[rows["metric"].isin(ruled) & rows["value"].notna()]
    broken = judged[judged["alert"].astype(bool)]
    if len(broken):
        detail = "; ".join(
            f"{row.metric} {row.value:.4g} where {row.baseline:.4g} was promised and {row.threshold:.4g} is the bound"
            for row in broken.itertuples()
        )
        return JudgedWindow(end, Outcome.FAILED, detail, total, labelled)
    if without := sorted(ruled & promised - set(judged["metric"])):
        detail = f"{', '.join(without)} was promised, and has no value in this window"
        return JudgedWindow(end, Outcome.UNDECIDED, detail, total, labelled, tuple(without))
    if judged["threshold"].notna().sum() == 0:
        detail = (
            f"nothing was promised of {', '.join(sorted(ruled))}: neither the version's training run nor its "
            "comparison has such a metric. Watch the figures yourself, or promote a version that was evaluated"
        )
        return JudgedWindow(end, Outcome.UNDECIDED, detail, total, labelled, promised=False)
    detail = ", ".join(f"{row.metric} {row.value:.4g}" for row in judged.itertuples())
    return JudgedWindow(end, Outcome.HELD, f"{detail} on {labelled} labelled rows", total, labelled)
