"""Whose turn it is: a newer candidate supersedes an older one that waits, and never the other way round.

A rule on the audit alone, so that a transition can check it in the same compare and swap that writes its rows.
"""

from penstock.errors import GateError, NothingToDo
from penstock.registry.audit import Snapshot
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
    rows = [row for row in snapshot.completed if row.version == version]
    if not rows or rows[-1].to_stage is not Stage.ARCHIVED:
        return None
    newer = rows[-1].plan.get(SUPERSEDED_BY) or _displaced_in_staging_by(rows[-1].group)
    return newer if newer is not None and newer > version and snapshot.stage(newer) in LIVE else None


def raise_if_not_its_turn(
    snapshot: Snapshot, registered: RegisteredModel, version: int, to_stage: Stage, *, by_itself: bool
) -> None:
    """Raises where a newer candidate stands before a version that would move on.

    Superseded, for a promotion that goes on by itself; GateError, for a person's decision on the older version.
    A person may move any version to Staging: that is a decision about the newer one, too.
    """
    if to_stage not in ALIASES or (to_stage is Stage.STAGING and not by_itself):
        return
    newer = superseding(snapshot, version)
    staged = snapshot.aliases.get(ALIASES[Stage.STAGING])
    if to_stage is Stage.STAGING and staged is not None and staged > version:
        newer = staged
    if newer is None or not registered.has_version(newer):
        return
    name = f"{registered.name} version {version}"
    if by_itself:
        raise Superseded(f"{name}: superseded by version {newer}, which is newer")
    raise GateError(
        f"{name} was superseded by version {newer}, which is a candidate still: decide on that one first; then run "
        "model_promotion for this version again"
    )


def _displaced_in_staging_by(group: str) -> int | None:
    """The version whose move to Staging archived another, by the id of that transition."""
    _, version, stage, *_ = [*group.split("/", 3), "", "", ""]
    return int(version) if stage == Stage.STAGING and version.isdecimal() else None
