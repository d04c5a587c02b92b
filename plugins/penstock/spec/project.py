"""The declaration of a team's ML project: `include/projects/<name>/project.yaml`.

Every class is one part of the file. Durations are written `14d`, `6h`, `30m`; functions by dotted name
from the project's folder (`models.late_arrival.train`); files relative to that folder; expressions are
Spark SQL over the columns of one row.
"""

from pydantic import Field

from penstock.spec.common import Name, Spec, Text
from penstock.spec.compliance import Compliance
from penstock.spec.model import (
    Costs,
    DriftMethod,
    DriftRule,
    Entity,
    Evaluation,
    Inference,
    Label,
    Lookup,
    Model,
    Monitoring,
    OnDemand,
    QualityRule,
    Retraining,
    RetrainingTrigger,
    Sampling,
    SearchRange,
    Sink,
    Task,
    Training,
)
from penstock.spec.promotion import Bound, Promotion, PromotionRule, SliceRule
from penstock.spec.table import (
    Column,
    ColumnType,
    FeatureTable,
    Grain,
    GrainInput,
    GrainJoin,
    Online,
    Source,
)

__all__ = [
    "Bound",
    "Column",
    "ColumnType",
    "Compliance",
    "Costs",
    "DriftMethod",
    "DriftRule",
    "Entity",
    "Evaluation",
    "FeatureTable",
    "Grain",
    "GrainInput",
    "GrainJoin",
    "Inference",
    "Label",
    "Lookup",
    "Model",
    "Monitoring",
    "Online",
    "OnDemand",
    "Project",
    "Promotion",
    "PromotionRule",
    "QualityRule",
    "Retraining",
    "RetrainingTrigger",
    "Schedules",
    "Sampling",
    "SearchRange",
    "Sink",
    "SliceRule",
    "Source",
    "Task",
    "Training",
]


class Schedules(Spec):
    """Cron expressions or presets per pipeline; a pipeline without one follows its assets or is triggered."""

    feature_refresh: str | None = Field(default=None, description='such as "0 6 * * *" or "@daily", UTC')
    training: str | None = Field(default=None, description="the same")
    batch_inference: str | None = Field(default=None, description="the same")
    monitoring: str | None = Field(default=None, description="the same")
    retraining: str | None = Field(default=None, description="the same")
    table_maintenance: str | None = Field(default=None, description='the same; such as "0 3 * * 0", once a week')


class Project(Spec):
    """A team's ML project: raw tables, feature tables and models."""

    name: Name = Field(description="the name of the project's folder")
    description: Text = Field(description="what the project is about")
    owner: Text = Field(description="who answers for it, such as a mail address")
    tags: dict[str, str] = Field(default_factory=dict, description="tags of its tables and models")
    schedules: Schedules = Field(default=Schedules(), description="when pipelines run by the clock")
    sources: dict[Name, Source] = Field(default_factory=dict, description="raw tables, by name")
    feature_tables: dict[Name, FeatureTable] = Field(default_factory=dict, description="by name")
    models: dict[Name, Model] = Field(default_factory=dict, description="by name")
