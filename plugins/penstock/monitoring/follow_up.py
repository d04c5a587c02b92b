"""After a promotion: the first monitored windows against the promise, and the way back where it is broken.

What was decided about a window is a note in the audit; everything else is read from `monitoring_metrics` anew, so
that a run which was killed, or left out, is caught up by the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import NothingToDo, PenstockError, ServiceError
from penstock.monitoring.judged_windows import JudgedWindow, Outcome, blind_windows, judge_windows, why_blind
from penstock.monitoring.windows import read_published
from penstock.registry.audit import AuditLog, Conflict, DeploymentRow
from penstock.registry.client import registered_name
from penstock.registry.history import ROLLS_BACK, production_rows
from penstock.registry.notes import Note, NoteKind
from penstock.registry.rolling_back import rollback
from penstock.registry.settling import patience
from penstock.registry.stages import current_production
from penstock.spec.model import Model
from penstock.spec.promotion import FollowUp, FollowUpAction
from penstock.workspace import Lineage, Workspace

if TYPE_CHECKING:
    import pandas as pd

DECIDED_BY = "penstock (follow-up)"


class FollowUpState(StrEnum):
    """How a follow-up stands."""

    WATCHING = "watching"
    HELD = "held"
    FAILED = "failed"
    UNDECIDED = "undecided"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class _Decided:
    """What is noted of a promotion: its name among such notes, why, and the figures."""

    name: str
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class FollowUpReport:
    """What the windows since a promotion say. `news`: something was decided that was not before.

    try_again: the rollback met a service that does not answer, so the same call may do it soon.
    """

    version: int
    state: FollowUpState
    reason: str
    windows: tuple[JudgedWindow, ...]
    production: int | None
    news: bool
    try_again: bool = False

    @property
    def lines(self) -> list[str]:
        """The windows, for people."""
        return [f"window up to {to_text(one.end)}: {one.outcome}; {one.detail}" for one in self.windows]


def follow_up_promotion(workspace: Workspace, project: str, model: str, as_of: datetime) -> FollowUpReport:
    """Judges the first windows of the production version, and rolls it back where it breaks its promise.

    Only windows known at as_of with enough labels count, and only after a promotion, not after a rollback. Where the
    version was rolled back before, and a person let it come back, windows up to that rollback decide nothing again.
    The run that rolled it back gets the same report once more: its try may have ended before anybody was told.
    A window holds where every metric that was promised and has a rule has a value within its bound; where one fails or
    is undefined in as many windows as the follow-up looks at, people are told; where nothing was promised, at once.
    Raises NothingToDo where no follow-up is declared, or the production version did not come by a promotion.
    """
    spec = workspace.project(project).model(model)
    name = registered_name(project, model)
    if spec.promotion.follow_up is None:
        raise NothingToDo(f"{name} declares no promotion.follow_up")
    promotions = production_rows(AuditLog(workspace, project, model).read().completed)
    if not promotions:
        raise NothingToDo(f"{name} has no version in production yet")
    promotion = promotions[-1]
    published = read_published(workspace, project, model)
    if ROLLS_BACK in promotion.plan:
        if not _is_of_this_run(workspace, promotion):
            raise NothingToDo(f"{name} version {promotion.version} came back by a rollback: it is not followed up")
        return _report_again(spec, spec.promotion.follow_up, promotions, published, as_of)
    windows = judge_windows(spec, spec.promotion.follow_up, promotions, published, as_of)
    news = _record(workspace, project, promotion, windows, spec.promotion.follow_up, as_of)
    return _conclude(workspace, project, spec.promotion.follow_up, promotion, windows, as_of, news)


def _conclude(
    workspace: Workspace, project: str, rule: FollowUp, promotion: DeploymentRow,
    windows: tuple[JudgedWindow, ...], as_of: datetime, fresh: frozenset[str],
) -> FollowUpReport:  # fmt: skip
    version = promotion.version
    about = f"version {version}, promoted as of {to_text(promotion.as_of)}"
    failed = next((one for one in windows if one.outcome == Outcome.FAILED), None)
    decided = sum(one.outcome != Outcome.UNDECIDED for one in windows)
    if failed is None:
        done = decided >= rule.windows
        blind = blind_windows(windows, rule)
        if not done and blind:
            reason = f"{about}: nobody knows whether it keeps its promise. {why_blind(blind)}"
            told = Outcome.UNDECIDED in fresh
            return FollowUpReport(version, FollowUpState.UNDECIDED, reason, windows, version, told)
        reason = f"{about}: {decided} of {rule.windows} windows hold what was promised"
        state = FollowUpState.HELD if done else FollowUpState.WATCHING
        return FollowUpReport(version, state, reason, windows, version, bool(fresh) and done)
    reason = f"{about}, breaks its promise in the window up to {to_text(failed.end)}: {failed.detail}"
    news = bool(fresh)
    if rule.action is FollowUpAction.ALERT:
        return FollowUpReport(version, FollowUpState.FAILED, reason, windows, version, news)
    try:
        done_back = rollback(
            workspace, project, promotion.model, DECIDED_BY, reason, from_version=version, as_of=as_of
        )  # fmt: skip
    except PenstockError as obstacle:  # whatever it is, people must hear that a broken promise stays
        return _not_rolled_back(workspace, project, promotion, windows, as_of, reason, obstacle)
    return _rolled_back(version, reason, done_back.production or version, windows)


def _rolled_back(version: int, reason: str, back: int, windows: tuple[JudgedWindow, ...]) -> FollowUpReport:
    text = f"{reason}. Version {back} is in production again"
    return FollowUpReport(version, FollowUpState.ROLLED_BACK, text, windows, back, news=True)


def _is_of_this_run(workspace: Workspace, row: DeploymentRow) -> bool:
    """Whether this very run decided a rollback. Outside of Airflow every run has one name, and tells by itself."""
    return row.decided_by == DECIDED_BY and row.run == workspace.lineage.run != Lineage().run


def _report_again(
    spec: Model, rule: FollowUp, promotions: Sequence[DeploymentRow], published: "pd.DataFrame", as_of: datetime
) -> FollowUpReport:
    """What the rollback that came last was reported with."""
    *before, row = promotions
    version = int(row.plan[ROLLS_BACK])
    while before[-1].version != version:
        before.pop()
    return _rolled_back(version, row.reason, row.version, judge_windows(spec, rule, before, published, as_of))


def _not_rolled_back(
    workspace: Workspace, project: str, promotion: DeploymentRow, windows: tuple[JudgedWindow, ...],
    as_of: datetime, reason: str, obstacle: PenstockError,
) -> FollowUpReport:  # fmt: skip
    """What is told where the way back is barred: once for each kind of obstacle, whichever try meets it."""
    kind = type(obstacle).__name__
    told = _Decided(f"not rolled back/{kind}", f"not rolled back: {obstacle}", {"obstacle": kind})
    news = bool(_keep(workspace, project, promotion, [told], as_of))
    try:
        now_there = current_production(workspace, project, promotion.model)
    except ServiceError:
        now_there = promotion.version  # as far as is known
    stays = now_there == promotion.version
    text = f"{reason}. It {'stays in production' if stays else 'was not rolled back'}: {obstacle}"
    try_again = isinstance(obstacle, ServiceError)
    return FollowUpReport(promotion.version, FollowUpState.FAILED, text, windows, now_there, news, try_again)


def _record(
    workspace: Workspace, project: str, promotion: DeploymentRow, windows: tuple[JudgedWindow, ...], rule: FollowUp,
    as_of: datetime,
) -> frozenset[str]:  # fmt: skip
    """Keeps what was decided, and the window since which nobody will know, each once; answers the new outcomes."""
    last_blind = blind_windows(windows, rule)[-1:]
    decided = [
        _Decided(
            f"{to_text(one.end)}/{one.outcome}", f"{one.outcome}: {one.detail}",
            {"window_end": to_text(one.end), "outcome": one.outcome, "rows": one.rows,
             "labelled_rows": one.labelled_rows},
        )
        for one in windows if one.outcome != Outcome.UNDECIDED or one in last_blind
    ]  # fmt: skip
    fresh = _keep(workspace, project, promotion, decided, as_of)
    return frozenset(one.evidence["outcome"] for one in fresh)


def _keep(
    workspace: Workspace, project: str, promotion: DeploymentRow, decided: Sequence[_Decided], as_of: datetime
) -> list[_Decided]:
    """Notes what was decided of a promotion, each once; answers what is new."""
    log = AuditLog(workspace, project, promotion.model)
    for _ in patience(registered_name(project, promotion.model)):
        snapshot = log.read()
        known = {note.note_id for note in snapshot.notes}
        at, prefix = snapshot.next_moment(), f"{promotion.transition_id}/follow_up/"
        fresh = [one for one in decided if prefix + one.name not in known]
        rows = [
            Note(
                prefix + one.name, promotion.model, NoteKind.FOLLOW_UP, promotion.version, DECIDED_BY, one.reason,
                as_of, at, {**one.evidence, "promotion": promotion.transition_id}, workspace.lineage.run,
            )
            for one in fresh
        ]  # fmt: skip
        if not rows:
            return []
        try:
            log.commit(snapshot, rows)
        except Conflict:
            continue
        return fresh
    raise AssertionError  # patience raises before it ends
