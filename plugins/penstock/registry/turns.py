"""Whose turn it is: a newer candidate supersedes an older one that waits, and never the other way round.

A newer one is one that passed its compliance check, and stands in Staging or in Production: what is good for nothing,
or was not looked at yet, supersedes nobody.

A rule on the audit alone, so that a transition can check it in the same compare and swap that writes its rows.
"""

from datetime import datetime

from penstock.errors import GateError, NothingToDo
from penstock.registry.audit import DeploymentRow, Snapshot
from penstock.registry.client import RegisteredModel
from penstock.registry.stages import ALIASES, Stage

SUPERSEDED_BY = "superseded_by"  # in the plan of a row that archives a candidate: the newer version
BY_ITSELF = "penstock (automatic)"  # decides where no person does
LIVE = frozenset({Stage.NONE, Stage.STAGING})
"""The stages of a candidate: neither in production nor archived."""


class Superseded(NothingToDo):
    """A newer candidate has taken the version's place: its promotion ends here."""


def superseding(snapshot: Snapshot, version: int) -> int | None:
    """The newer candidate for which a version was archived, while it is a candidate still; None where there is none."""
    if snapshot.stage(version) is not Stage.ARCHIVED:
        return None
    newer = _archived_for(snapshot.latest(version))
    return newer if newer is not None and newer > version and snapshot.stage(newer) in LIVE else None


def ahead_of(snapshot: Snapshot, registered: RegisteredModel, version: int, as_of: datetime) -> int | None:
    """The newer version that a version gives way to in its gates; None where there is none, and it goes on.

    That is the one in Staging; or the one in Production, for a version that nobody decided upon, or that was
    superseded and that nobody asked for since, with a later as_of.
    """
    staged, production = (snapshot.aliases.get(ALIASES[stage]) for stage in (Stage.STAGING, Stage.PRODUCTION))
    newer = staged if staged is not None and staged > version else None
    if newer is None and production is not None and production > version and _passed_by(snapshot, version, as_of):
        newer = production
    return newer if newer is not None and registered.has_version(newer) else None


def _passed_by(snapshot: Snapshot, version: int, as_of: datetime) -> bool:
    stage = snapshot.stage(version)
    if stage is not Stage.ARCHIVED:
        return stage is Stage.NONE
    row = snapshot.latest(version)
    return _archived_for(row) is not None and as_of <= row.as_of


def raise_if_not_its_turn(
    snapshot: Snapshot, registered: RegisteredModel, version: int, to_stage: Stage, as_of: datetime, *, by_itself: bool
) -> None:
    """Raises where a newer candidate stands before a version that would move on.

    Superseded, for a promotion that goes on by itself; GateError, for a person's decision on the older version.
    A person may move any version to Staging: that is a decision about the newer one, too.
    """
    if to_stage not in ALIASES or (to_stage is Stage.STAGING and not by_itself):
        return
    newer = superseding(snapshot, version)
    if to_stage is Stage.STAGING:
        newer = ahead_of(snapshot, registered, version, as_of) or newer
    if newer is None or not registered.has_version(newer):
        return
    name = f"{registered.name} version {version}"
    if by_itself:
        raise Superseded(f"{name}: superseded by version {newer}, which is newer")
    raise GateError(
        f"{name} was superseded by version {newer}, which is a candidate still: decide on that one first; then run "
        "model_promotion for this version again"
    )


def _archived_for(row: DeploymentRow) -> int | None:
    """The newer version for whose sake a row archives another."""
    return row.plan.get(SUPERSEDED_BY) or _displaced_in_staging_by(row.group)


def _displaced_in_staging_by(group: str) -> int | None:
    """The version whose move to Staging archived another, by the id of that transition."""
    _, version, stage, *_ = [*group.split("/", 3), "", "", ""]
    return int(version) if stage == Stage.STAGING and version.isdecimal() else None
