"""An environment: `include/environments/<env>.yaml`. Values may be `${VAR}` or `${VAR:-default}`."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from penstock.spec.common import Name, Spec, Text

LOCAL = "local"


class ReadOnlyRoot(Spec):
    """Another environment's lakehouse that may be read here."""

    name: Name = Field(description="what stands before the colon in `root:project.table`")
    root: Text = Field(description="path or URL")


class LakehouseSpec(Spec):
    """Where tables live: a path or URL, and roots that may be read after it, in order."""

    root: Text = Field(description="path or URL; a table lies in root/project/table")
    read_only: list[ReadOnlyRoot] = Field(
        default_factory=list, description="searched in order for what the root lacks; never written"
    )


class SparkSpec(Spec):
    """The Spark Connect server."""

    address: Text = Field(default=LOCAL, description="sc://host:port, or local for the one of the local stack")


class MlflowSpec(Spec):
    """The tracking server and registry."""

    tracking_uri: Text = Field(default=LOCAL, description="http(s)://…, or local for the one of the local stack")
    registry_uri: Text | None = Field(
        default=None, description="where models are registered; the tracking server by default"
    )


class ApprovalMode(StrEnum):
    """Who lets a version into production."""

    AUTOMATIC = "automatic"
    HUMAN = "human"


class Approval(Spec):
    """How a promotion is approved."""

    mode: ApprovalMode = Field(description="automatic: the comparison decides; human: a person has the last word")
    approvers: list[Text] = Field(
        default_factory=list, description="ids of Airflow users who may approve; anyone with the right, if empty"
    )
    expires_after_hours: float = Field(default=72, gt=0, description="how long the question to a person stays open")


class Limits(Spec):
    """Bounds on the size of work, so that dev is quick."""

    training_rows: int | None = Field(default=None, ge=100, description="newest rows of a training set; all by default")
    trials: int | None = Field(default=None, ge=1, description="most tuning trials")


class Environment(Spec):
    """dev, staging or prod: storage, services, who approves, what runs by itself."""

    name: Name = Field(description="the name of the file")
    description: Text = Field(description="what it is for")
    lakehouse: LakehouseSpec = Field(description="where tables live")
    spark: SparkSpec = Field(default=SparkSpec(), description="where Spark runs")
    mlflow: MlflowSpec = Field(default=MlflowSpec(), description="where runs and models are recorded")
    schedules: bool = Field(description="whether cron schedules are on; assets chain pipelines in any case")
    approval: Approval = Field(description="who lets a version into production")
    hand_moved_alias: Literal["adopt", "revert"] = Field(
        default="adopt", description="what happens to an alias that was moved outside of Penstock"
    )
    limits: Limits = Field(default=Limits(), description="bounds on the size of work")
    replay_clock: str | None = Field(default=None, description="file with the as_of that stands for now in a replay")
