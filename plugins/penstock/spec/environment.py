"""An environment: `include/environments/<env>.yaml`. Values may be `${VAR}` or `${VAR:-default}`."""

from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.spec.common import DottedName, Duration, Name, Spec, Text, duration_text
from penstock.spec.compliance import Code, EnvironmentCompliance

LOCAL = "local"
_LEAST_LOOK_AGAIN = timedelta(seconds=10)


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
        default_factory=list,
        description="Airflow users who may approve, by name or id; anyone with the right to answer, if empty",
    )
    expires_after_hours: float = Field(default=72, gt=0, description="how long the question to a person stays open")
    look_again: Duration = Field(
        default=timedelta(minutes=5),
        description="how often a request that waits looks whether it is still wanted: the event that says that a newer "
        "version took its place may be lost",
    )

    @field_validator("look_again")
    @classmethod
    def _some_time(cls, value: timedelta) -> timedelta:
        if value < _LEAST_LOOK_AGAIN:
            raise ValueError(f"{duration_text(value)} is too often: each look is a task; write at least 10s")
        return value

    def may_approve(self, *known_as: str | None) -> bool:
        """Whether a user with these ids and names is an approver."""
        return not self.approvers or any(name in self.approvers for name in known_as if name)


class NotificationEvent(StrEnum):
    """What people are told."""

    APPROVAL_WANTED = "approval_wanted"
    APPROVAL_DECIDED = "approval_decided"
    APPROVAL_EXPIRED = "approval_expired"
    FOLLOW_UP_FAILED = "follow_up_failed"
    ROLLED_BACK = "rolled_back"


class Notification(Spec):
    """One way to tell people: a notifier of Airflow's, of a provider's, or an own one.

    Its arguments are templates that know `notice`: event, subject, text, html, link, project, model, version.
    """

    notifier: DottedName = Field(
        description="class, such as airflow.providers.smtp.notifications.smtp.SmtpNotifier or "
        "penstock.notifiers.file.FileNotifier"
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="its keyword arguments; a login belongs into an Airflow connection that they name",
    )
    events: list[NotificationEvent] = Field(
        default_factory=lambda: list(NotificationEvent), description="what is told this way; everything by default"
    )


class Search(StrEnum):
    """How much of a model's search space is tried."""

    WIDE = "wide"
    BEST = "best"


class Limits(Spec):
    """Bounds on the size of work, so that dev is quick."""

    training_rows: int | None = Field(
        default=None, ge=100, description="most rows of a training set, chosen by training.sampling; all by default"
    )
    training_memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="most memory that a training set may take; 70 % of what is free (in a container: of its limit) by "
        "default",
    )
    trials: int | None = Field(default=None, ge=1, description="most tuning trials")
    tuning_minutes: float | None = Field(
        default=None, gt=0, description="after so many minutes of trials no further one begins; no limit by default"
    )
    search: Search = Field(
        default=Search.WIDE,
        description="wide: all of training.search; best: only the options of training.best, where a model has some",
    )


class OnlineStoreKind(StrEnum):
    """Where the newest feature values are kept for serving."""

    SQLITE = "sqlite"
    REDIS = "redis"


class OnlineStoreSpec(Spec):
    """An online store: a file beside the program that reads it, or a Redis server that several machines share."""

    kind: OnlineStoreKind = Field(description="sqlite: a file on this machine; redis: a server")
    path: Text | None = Field(
        default=None, description="of sqlite: the file; online.sqlite in the environment's state folder by default"
    )
    url: SecretStr | None = Field(
        default=None, description="of redis: redis://[:password@]host:port/database, from a `${VAR}`; rediss:// for TLS"
    )

    @model_validator(mode="after")
    def _place(self) -> "OnlineStoreSpec":
        if self.kind is OnlineStoreKind.REDIS and (self.url is None or self.path is not None):
            raise ValueError("is a Redis server: write url, and no path")
        if self.kind is OnlineStoreKind.SQLITE and self.url is not None:
            raise ValueError("is a file: write path, and no url")
        return self


DEFAULT_ONLINE_STORE = "default"


class Maintenance(Spec):
    """How long `table_maintenance` keeps what is no longer current."""

    retention: Duration = Field(
        default=timedelta(days=7), description="how long files of older versions stay readable, such as 14d"
    )
    log_retention: Duration = Field(
        default=timedelta(days=3650), description="how long a table's history of commits is kept"
    )
    allow_short_retention: bool = Field(
        default=False,
        description="lets retention be less than 7d: queries and writers that still run may then lose their files",
    )

    @model_validator(mode="after")
    def _long_enough(self) -> "Maintenance":
        if self.retention < timedelta(days=7) and not self.allow_short_retention:
            raise ValueError(
                "keeps files for less than 7d: write retention: 7d or more, or allow_short_retention: true"
            )
        return self


class Environment(Spec):
    """dev, staging or prod: storage, services, who approves, what runs by itself."""

    name: Name = Field(description="the name of the file")
    description: Text = Field(description="what it is for")
    lakehouse: LakehouseSpec = Field(description="where tables live")
    spark: SparkSpec = Field(default=SparkSpec(), description="where Spark runs")
    mlflow: MlflowSpec = Field(default=MlflowSpec(), description="where runs and models are recorded")
    schedules: bool = Field(description="whether cron schedules are on; assets chain pipelines in any case")
    approval: Approval = Field(description="who lets a version into production")
    notifications: list[Notification] = Field(
        default_factory=list, description="how people are told of approvals, failed promises and rollbacks"
    )
    hand_moved_alias: Literal["adopt", "revert"] = Field(
        default="adopt", description="what happens to an alias that was moved outside of Penstock"
    )
    reconcile_registry: Duration | None = Field(
        default=timedelta(minutes=5),
        description="how often `registry_reconciliation` looks for versions whose promotion was missed, and for "
        "aliases moved by hand; whatever `schedules` says. null: only when it is triggered",
    )
    limits: Limits = Field(default=Limits(), description="bounds on the size of work")
    replay_clock: str | None = Field(default=None, description="file with the as_of that stands for now in a replay")
    online_stores: dict[Name, OnlineStoreSpec] = Field(
        default_factory=dict,
        description="where tables that are `online` keep their newest values, by name; "
        "`default` is an sqlite file where it is not given",
    )
    code: Code = Field(default=Code(), description="which code may train models")
    compliance: EnvironmentCompliance = Field(
        default=EnvironmentCompliance(), description="what is asked of every version"
    )
    maintenance: Maintenance = Field(default=Maintenance(), description="how long old versions of tables are kept")

    def online_store(self, name: str) -> OnlineStoreSpec | None:
        """The online store of this name; None where there is none."""
        if name == DEFAULT_ONLINE_STORE:
            return self.online_stores.get(name, OnlineStoreSpec(kind=OnlineStoreKind.SQLITE))
        return self.online_stores.get(name)
