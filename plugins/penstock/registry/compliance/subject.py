"""What a check looks at: one version, its files, its run, its origin; and how it behaves once it was loaded."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.registry.candidates import Sample, sample_rows
from penstock.registry.client import RegisteredModel
from penstock.registry.compliance.attempt import Attempt, attempt
from penstock.registry.compliance.provenance import Provenance, find_provenance
from penstock.registry.compliance.trial import Trial
from penstock.spec.compliance import Compliance
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.feature_spec import spec_as_asked
from penstock.training.model_folder import ModelFiles
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Subject:
    """The version that is checked. described: its description, without the verdict of an earlier check."""

    workspace: Workspace
    project: LoadedProject
    model_name: str
    registered: RegisteredModel
    version: "ModelVersion"
    files: ModelFiles
    described: str
    as_of: datetime

    @property
    def model(self) -> Model:
        """The model's declaration."""
        return self.project.model(self.model_name)

    @property
    def asked(self) -> Compliance:
        """What the project asks of its versions."""
        return self.model.promotion.compliance

    @property
    def feature_spec(self) -> dict[str, Any]:
        """What it needs, as the declared model's versions are asked. Raises Unusable."""
        return spec_as_asked(self.files.feature_spec, self.model.entity)

    @cached_property
    def provenance(self) -> Provenance:
        """Where its files come from."""
        return find_provenance(self.workspace, self.project, self.model_name, self.registered, self.version, self.files)

    @cached_property
    def attempt(self) -> Attempt:
        """What came of loading it; the first who asks has it loaded. Raises ServiceError."""
        return attempt(self)

    @property
    def trial(self) -> Trial | None:
        """How it loaded and what it predicted, in a process of its own; None where it must not be loaded."""
        return self.attempt.trial

    @cached_property
    def sample(self) -> Sample | None:
        """Rows to try it on. Raises what `sample_rows` raises."""
        return sample_rows(self.workspace, self.version, self.files)
