"""One candidate at a time: who may go through model_promotion next.

Each version goes through its gates, unless a newer one is ahead of it: passed its compliance check, and stands in
Staging or Production. Then it is archived with a note that names that one. Nothing is lost in between: every version
ends in Production, in Archived, or is a candidate that is decided upon.
"""

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from penstock.clock import parse_as_of, to_text
from penstock.errors import ClockError
from penstock.registry.audit import AuditLog, DeploymentRow, Snapshot
from penstock.registry.client import RegisteredModel
from penstock.registry.deployments import repair, transition
from penstock.registry.history import ROLLS_BACK, production_rows
from penstock.registry.holds import holds_of, raise_if_rolled_back
from penstock.registry.numbering import raise_if_another
from penstock.registry.settling import staged_versions
from penstock.registry.stages import Stage, derive_stage
from penstock.registry.turns import BY_ITSELF, LIVE, SUPERSEDED_BY, Superseded, ahead_of
from penstock.workspace import Workspace

_AHEAD = "which is newer, and passed its compliance check before"


@dataclass(frozen=True)
class Candidate:
    """A version that nobody decides upon, the as_of at which it is promoted, and the DAG run to ask for."""

    version: int
    as_of: str
    run_id: str


class PromotionRuns(Protocol):
    """The runs of a model's model_promotion, as Airflow knows them."""

    def exists(self, run_id: str) -> bool:
        """Whether there is such a run."""

    def failed(self, run_id: str) -> bool:
        """Whether it ended by a failure."""

    def any_active(self) -> bool:
        """Whether any run of the DAG goes on, or is queued."""


def promotion_run_id(model: str, version: int, again: int = 0) -> str:
    """The id of a version's promotion: the same whoever asks. `again`: how often its request was lost."""
    return f"promote__{model}__{version}" + (f"__again_{again}" if again else "")


def admit(workspace: Workspace, project: str, model: str, version: int, as_of: datetime) -> int:
    """Lets a version go on, unless a newer one is ahead of it; answers it.

    A newer one that was only registered, that failed its compliance check, or whose run failed is not ahead: a version
    that is good for nothing supersedes nobody.

    Raises Superseded where a newer one is in Staging or in Production (this one is archived then, if it is a candidate
    still), GateError for a version that was rolled back and that nobody has allowed since, or whose number was
    another's, RegistryError for an unknown version, and what `transition` raises.
    """
    registered = RegisteredModel(workspace, project, model)
    found, snapshot = registered.version(version), AuditLog(workspace, project, model).read()
    raise_if_another(snapshot, found)
    raise_if_rolled_back(holds_of(snapshot), registered.name, version)
    newer = ahead_of(snapshot, registered, version, as_of)
    if newer is None:
        return version
    if version in _live(registered, snapshot):
        _archive(workspace, project, model, version, newer, as_of, _AHEAD)
    raise Superseded(
        f"{registered.name} version {version}: superseded by version {newer}, {_AHEAD}. To have it judged "
        "all the same, run model_promotion for it with a later as_of once that one is decided upon"
    )


def supersede_older(workspace: Workspace, project: str, model: str, as_of: datetime) -> list[int]:
    """Archives the versions without a stage that a newer one is ahead of by now, whether somebody asked for their
    promotion or not; answers them.
    """
    registered, snapshot = RegisteredModel(workspace, project, model), AuditLog(workspace, project, model).read()
    waiting = sorted(number for number, stage in _live(registered, snapshot).items() if stage is Stage.NONE)
    passed_by = {number: ahead_of(snapshot, registered, number, as_of) for number in waiting}
    for number, newer in passed_by.items():
        if newer is not None:
            _archive(workspace, project, model, number, newer, as_of, _AHEAD)
    return [number for number, newer in passed_by.items() if newer is not None]


def find_missed(workspace: Workspace, project: str, model: str, runs: PromotionRuns) -> Candidate | None:
    """The newest version without a stage whose promotion nobody has asked for, else the one in Staging that nobody is
    asked about any more; None where nothing was missed.

    The newest comes first: once it is in Staging, the older ones need no run of their own. A version whose run failed
    has one: to try that again is a person's decision, since what could mend itself was tried again already.

    Raises GateError where the newest version has a number that was another's.
    """
    registered = RegisteredModel(workspace, project, model)
    snapshot, every = AuditLog(workspace, project, model).read(), registered.versions()
    if every:
        raise_if_another(snapshot, every[-1])
    live = _live(registered, snapshot)
    waiting = sorted((number for number, stage in live.items() if stage is Stage.NONE), reverse=True)
    missed = ((version, promotion_run_id(model, version)) for version in waiting)
    found = next((one for one in missed if not runs.exists(one[1])), None) or _forgotten(model, live, runs)
    if found is None:
        return None
    version, run_id = found
    return Candidate(version, _as_of(workspace, registered.version(version).tags.get("penstock.as_of")), run_id)


def _forgotten(model: str, live: dict[int, Stage], runs: PromotionRuns) -> tuple[int, str] | None:
    """The version in Staging, and the run to ask for, where no run goes on that could decide upon it.

    Its request was ended although it is a candidate still (a hand moved its alias, or skipped the task), or it came to
    Staging without a run.
    """
    staged = next((version for version, stage in live.items() if stage is Stage.STAGING), None)
    if staged is None or runs.any_active():
        return None
    ids = (promotion_run_id(model, staged, again) for again in itertools.count())
    former = ""
    for run_id in ids:
        if not runs.exists(run_id):
            return None if former and runs.failed(former) else (staged, run_id)
        former = run_id
    raise AssertionError  # there is a number that has no run yet


def settle_waiting(workspace: Workspace, project: str, model: str, version: int, as_of: datetime) -> str | None:
    """Why nobody needs to decide any more upon a version that waits for approval; None where somebody does.

    What an event would have said, found again by the audit, after a repair: the version is archived, in production or
    deleted by now. A waiting one that is older than a version which came to production since is archived by this. One
    that this very run archived by its own gate or answer is decided upon again where a person clears the task.
    """
    repair(workspace, project, model, as_of)
    registered = RegisteredModel(workspace, project, model)
    name = f"{registered.name} version {version}"
    if not registered.has_version(version):
        return f"{name} is no longer in the registry"
    snapshot = AuditLog(workspace, project, model).read()
    stage = snapshot.stage(version)
    latest = snapshot.latest(version) if stage not in LIVE else None
    if latest is not None and not _decided_by_run(latest, workspace.lineage.run):
        return f"{name} is in {stage} already, by {latest.decided_by}: {latest.reason}"
    newer = _promoted_since(snapshot, version)
    if newer is None:
        return None
    _archive(workspace, project, model, version, newer, as_of, "which came to production meanwhile")
    return f"{name} was superseded by version {newer}, which came to production meanwhile"


def _decided_by_run(row: DeploymentRow, run: str) -> bool:
    """Whether a run archived a version for its own sake, not for that of another version."""
    own = row.group == row.transition_id and SUPERSEDED_BY not in row.plan
    return own and row.to_stage is Stage.ARCHIVED and row.run == run


def _promoted_since(snapshot: Snapshot, version: int) -> int | None:
    """A newer version that came to production, not by a rollback, after this one came to where it stands."""
    rows = list(snapshot.completed)
    since = max((place for place, row in enumerate(rows) if row.version == version), default=-1)
    promoted = [row.version for row in production_rows(rows[since + 1 :]) if ROLLS_BACK not in row.plan]
    newer = [other for other in promoted if other > version]
    return newer[-1] if newer else None


def _live(registered: RegisteredModel, snapshot: Snapshot) -> dict[int, Stage]:
    """The candidates by number, with their stages."""
    aliases, staged = registered.aliases(), staged_versions(snapshot)
    stages = {
        int(found.version): derive_stage(int(found.version), aliases, staged_before=int(found.version) in staged)
        for found in registered.versions()
    }
    return {number: stage for number, stage in stages.items() if stage in LIVE}


def _archive(
    workspace: Workspace, project: str, model: str, version: int, newer: int, as_of: datetime,
    how: str,
) -> None:  # fmt: skip
    transition(
        workspace, project, model, version, Stage.ARCHIVED, BY_ITSELF, f"superseded by version {newer}, {how}", {},
        as_of, cause=f"superseded by {newer}", plan={SUPERSEDED_BY: newer},
    )  # fmt: skip


def _as_of(workspace: Workspace, tagged: str | None) -> str:
    if tagged:
        try:
            return to_text(parse_as_of(tagged))
        except ClockError:
            pass  # a tag that a hand wrote: the clock's is as good as any
    return to_text(workspace.moment())
