"""One candidate at a time: who may go through model_promotion next.

Versions wait in the order of their numbers. The newest is checked; what waited before it is archived with a note that
names it. Nothing is lost in between: every version ends in Production, in Archived, or is the newest candidate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from penstock.clock import parse_as_of, to_text
from penstock.errors import ClockError
from penstock.registry.client import RegisteredModel
from penstock.registry.deployments import transition
from penstock.registry.stages import STAGE_TAG, Stage, derive_stage
from penstock.registry.turns import BY_ITSELF, LIVE, SUPERSEDED_BY, Superseded
from penstock.workspace import Workspace


@dataclass(frozen=True)
class Admission:
    """A version whose turn it is, and the older ones that it superseded."""

    version: int
    superseded: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """A version that has no stage, and the as_of at which it is promoted."""

    version: int
    as_of: str


def admit(workspace: Workspace, project: str, model: str, version: int, as_of: datetime) -> Admission:
    """Lets a version go on, if no newer candidate is registered; older ones that nobody looked at yet are archived.

    An older one that waits for approval stays, until this one has passed its compliance check and takes its place in
    Staging: a version that is good for nothing supersedes nobody.

    Raises Superseded where a newer candidate is registered (this one is archived then), RegistryError for an unknown
    version, and what `transition` raises.
    """
    registered = RegisteredModel(workspace, project, model)
    registered.version(version)
    live = _live(registered)
    newer = [other for other in live if other > version]
    if newer:
        if version in live:
            _archive(workspace, project, model, version, max(newer), as_of)
        raise Superseded(f"{registered.name} version {version}: superseded by version {max(newer)}, which is newer")
    older = sorted(other for other, stage in live.items() if other < version and stage is Stage.NONE)
    for other in older:
        _archive(workspace, project, model, other, version, as_of)
    return Admission(version, tuple(older))


def find_missed(
    workspace: Workspace, project: str, model: str, has_run: Callable[[int], bool]
) -> Candidate | None:  # fmt: skip
    """The newest version without a stage whose promotion nobody has asked for; None where none was missed.

    Older ones need no run of their own: the newest supersedes them. A version whose run failed has one: to try that
    again is a person's decision, since what could mend itself was tried again already.
    """
    registered = RegisteredModel(workspace, project, model)
    waiting = sorted((number for number, stage in _live(registered).items() if stage is Stage.NONE), reverse=True)
    found = next((version for version in waiting if not has_run(version)), None)
    if found is None:
        return None
    return Candidate(found, _as_of(workspace, registered.version(found).tags.get("penstock.as_of")))


def _live(registered: RegisteredModel) -> dict[int, Stage]:
    """The candidates by number, with their stages."""
    aliases = registered.aliases()
    stages = {
        int(found.version): derive_stage(int(found.version), aliases, staged_before=STAGE_TAG in found.tags)
        for found in registered.versions()
    }
    return {number: stage for number, stage in stages.items() if stage in LIVE}


def _archive(workspace: Workspace, project: str, model: str, version: int, newer: int, as_of: datetime) -> None:
    transition(
        workspace, project, model, version, Stage.ARCHIVED, BY_ITSELF,
        f"superseded by version {newer}, which was registered later", {}, as_of, cause=f"superseded by {newer}",
        plan={SUPERSEDED_BY: newer},
    )  # fmt: skip


def _as_of(workspace: Workspace, tagged: str | None) -> str:
    if tagged:
        try:
            return to_text(parse_as_of(tagged))
        except ClockError:
            pass  # a tag that a hand wrote: the clock's is as good as any
    return to_text(workspace.moment())
