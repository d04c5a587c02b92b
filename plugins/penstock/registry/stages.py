"""Stages without MLflow's deprecated ones: aliases are the truth, the tag `penstock.stage` follows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.registry.client import RegisteredModel
from penstock.workspace import Workspace

STAGE_TAG = "penstock.stage"


class Stage(StrEnum):
    """Where a version stands; the tag is absent for NONE."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


ALIASES: dict[Stage, str] = {Stage.PRODUCTION: "production", Stage.STAGING: "staging"}


@dataclass(frozen=True)
class VersionOverview:
    """A registered version at a glance; times are ISO texts, metrics those of its hold-out."""

    version: int
    stage: str
    metrics: dict[str, float]
    run_id: str | None
    as_of: str | None
    trained_until: str | None


def derive_stage(version: int, aliases: Mapping[str, int], *, staged_before: bool) -> Stage:
    """A version's stage by the aliases; one that had a stage and has no alias is archived."""
    for stage, alias in ALIASES.items():
        if aliases.get(alias) == version:
            return stage
    return Stage.ARCHIVED if staged_before else Stage.NONE


def current_production(workspace: Workspace, project: str, model: str) -> int | None:
    """The version with the alias `production`; None before the first promotion.

    Raises ServiceError where the registry does not answer.
    """
    return RegisteredModel(workspace, project, model).aliases().get(ALIASES[Stage.PRODUCTION])


def stage_of(workspace: Workspace, project: str, model: str, version: int) -> Stage:
    """The stage of a version. Raises RegistryError where there is no such version."""
    registered = RegisteredModel(workspace, project, model)
    registered.version(version)
    staged = _staged_before(workspace, project, model)
    return derive_stage(version, registered.aliases(), staged_before=version in staged)


def versions(workspace: Workspace, project: str, model: str) -> list[VersionOverview]:
    """Every version of a model, oldest first; empty where none is registered yet.

    Stages are those of the aliases and the audit; what the tags say does not count.
    """
    registered = RegisteredModel(workspace, project, model)
    aliases, staged = registered.aliases(), _staged_before(workspace, project, model)
    return [
        VersionOverview(
            version=int(found.version),
            stage=derive_stage(int(found.version), aliases, staged_before=int(found.version) in staged),
            metrics=registered.run_metrics(found),
            run_id=registered.run_id(found),
            as_of=found.tags.get("penstock.as_of"),
            trained_until=found.tags.get("penstock.trained_until"),
        )
        for found in registered.versions()
    ]


def _staged_before(workspace: Workspace, project: str, model: str) -> set[int]:
    from penstock.registry.audit import AuditLog  # which needs the stages of this module
    from penstock.registry.settling import staged_versions

    return staged_versions(AuditLog(workspace, project, model).read())
