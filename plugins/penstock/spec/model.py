"""What a model is declared as: entity, label, lookups, and how it is trained, promoted, used and watched."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from penstock.spec.common import DottedName, Duration, Expression, Name, Spec, Text
from penstock.spec.promotion import Promotion
from penstock.spec.table import ColumnType


class Entity(Spec):
    """What a prediction is about: a row of a table, at its prediction time; of several the newest that was known."""

    table: str = Field(description="table, project.table or root:project.table")
    keys: Annotated[list[Name], Field(min_length=1)] = Field(
        description="columns that, with the prediction time, identify what is predicted"
    )
    prediction_time: Name = Field(description="timestamp column: when the prediction is asked for, UTC")
    features: list[Name] = Field(default_factory=list, description="columns of the row that the model sees")


class Label(Spec):
    """The truth, from a source that has the entity's keys; it enters once it is known (its available_at).

    Of several rows of an entity the newest that was known counts: the others were corrected.
    """

    name: Name = Field(description="what it is called, for people")
    table: str = Field(description="source that holds it")
    expression: Expression = Field(
        description="SQL over a row of the table: true or false for a classification, a number for a regression"
    )


class Lookup(Spec):
    """Features joined as of the prediction time: the newest row with event_time <= prediction time.

    `keys` maps each primary key of the feature table to an expression over the entity row;
    `rename` gives a feature its name in the training set. With `offset` the row is looked up as of that
    much before the prediction time, so that one table can be looked up at several times.
    """

    table: str = Field(description="feature table: table, project.table or root:project.table")
    keys: Annotated[dict[Name, Expression], Field(min_length=1)] = Field(
        description="for each primary key of the feature table, an expression over the entity's row"
    )
    features: Annotated[list[Name], Field(min_length=1)] = Field(description="columns to take")
    rename: dict[Name, Name] = Field(default_factory=dict, description="other names for some of these features")
    max_age: Duration | None = Field(
        default=None,
        description="features older than this at the moment of the lookup count as missing; any age by default",
    )
    offset: Duration = Field(
        default=timedelta(0), description="look up as of the prediction time minus this, such as 7d: a week before"
    )
    defaults: dict[Name, bool | int | float | str] = Field(
        default_factory=dict, description="by feature (its name in the table), the value of missing ones"
    )

    def output_name(self, feature: str) -> str:
        """The name that `feature` has in the training set."""
        return self.rename.get(feature, feature)


class OnDemand(Spec):
    """A feature computed from a request and looked-up values, in training sets, batches and online alike.

    `function(inputs)` gets a pandas DataFrame of the columns `inputs` and returns a Series of as many values.
    Each value may depend on its own row only: rows come in batches of any size.
    """

    function: DottedName = Field(description="function(pandas DataFrame of the inputs) -> pandas Series")
    inputs: Annotated[list[Name], Field(min_length=1)] = Field(
        description="columns of the entity's row, looked-up features (by their output names) or prediction_time"
    )
    type: ColumnType = Field(description="the type of the values; date and timestamp are none")


class Task(StrEnum):
    """What a model predicts: the probability of a binary label, or a number."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class SearchRange(Spec):
    """A parameter that tuning chooses: exactly one of `int`, `float` and `choice`."""

    integer: tuple[int, int] | None = Field(default=None, alias="int", description="[low, high], both included")
    number: tuple[float, float] | None = Field(default=None, alias="float", description="[low, high]")
    choice: list[Any] | None = Field(default=None, description="the values to choose from")
    log: bool = Field(default=False, description="whether to search on a logarithmic scale")

    @model_validator(mode="after")
    def _exactly_one(self) -> "SearchRange":
        if sum(part is not None for part in (self.integer, self.number, self.choice)) != 1:
            raise ValueError(
                "gives no range, or several: write exactly one of int: [low, high], float: [low, high], choice: […]"
            )
        return self


class Sampling(StrEnum):
    """Which rows stay where the environment's `limits.training_rows` are fewer than there are."""

    NEWEST = "newest"
    RANDOM = "random"


class Training(Spec):
    """How a candidate is made.

    `function(training, tuning, parameters)` gets two `penstock.training.Block` (features, label, weight)
    and returns a fitted model that MLflow can log. The training set is cut in time: train, tune, hold out.
    """

    function: DottedName = Field(
        description="function(training, tuning, parameters) -> fitted model; an argument named `report` is for pruning"
    )
    task: Task = Field(default=Task.CLASSIFICATION, description="what is predicted")
    flavor: str = Field(
        default="lightgbm", description="MLflow flavour of the model: lightgbm, sklearn, xgboost, pytorch, …"
    )
    window: Duration | None = Field(default=None, description="how far back the training set reaches; all by default")
    as_known: bool = Field(
        default=False,
        description="features as they were known at the prediction time: corrections that came later do not count",
    )
    tune: Duration = Field(
        default=timedelta(days=14), description="the block of time before hold_out, on which tuning decides"
    )
    hold_out: Duration = Field(
        default=timedelta(days=14), description="the last block of time, on which the candidate is measured"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="fixed parameters for the function")
    search: dict[str, SearchRange] = Field(default_factory=dict, description="parameters that tuning chooses")
    best: list[dict[str, Any]] = Field(
        default_factory=list,
        description="options that proved best, each a value for every parameter of `search`; an environment with "
        "`limits.search: best` tries these only",
    )
    trials: int = Field(default=6, ge=1, description="tuning budget; the environment may lower it")
    folds: int = Field(
        default=1,
        ge=1,
        le=20,
        description="cross-validation in time: a trial counts by its mean on so many blocks before hold_out, each "
        "`tune` long, and each learned from what lies before it",
    )
    pruning: bool = Field(
        default=True, description="whether trials that fall behind the median of earlier ones are given up early"
    )
    sampling: Sampling = Field(
        default=Sampling.NEWEST,
        description="which rows stay where `limits.training_rows` is less: the newest of all, or random ones of the "
        "training block, beside whole tuning and hold-out blocks",
    )
    seed: int = Field(default=7, description="seed of everything that draws lots")
    metric: str = Field(description="what tuning optimises: a built-in metric or one of `metrics`")
    metrics: dict[Name, DottedName] = Field(
        default_factory=dict, description="own metrics: function(label, prediction) -> float"
    )
    lower_is_better: list[str] = Field(default_factory=list, description="own metrics where less is better")
    minimum_rows: int = Field(default=200, ge=10, description="fewer labelled rows than that train no model")
    requirements: list[str] = Field(default_factory=list, description="packages that the model needs to be loaded")


class Costs(Spec):
    """What each kind of mistake of a classification costs, in any unit; only their ratio decides."""

    false_positive: float = Field(gt=0, description="of a prediction of 1 where the label is 0: a false alarm")
    false_negative: float = Field(gt=0, description="of a prediction of 0 where the label is 1: a miss")


class Evaluation(Spec):
    """How a candidate is measured on the rows that it has not seen.

    Confidence intervals come from a bootstrap of the hold-out rows. Where `costs` are given, the threshold that
    costs least on the tuning block is chosen, and reported with what it costs on the hold-out block.
    """

    slices: list[Name] = Field(
        default_factory=list,
        description="features or keys of the entity by whose values results are reported; numbers of more than "
        "four values are cut at quartiles",
    )
    minimum_slice_rows: int = Field(default=100, ge=2, description="slices of fewer rows are not judged")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="level of the confidence intervals")
    bootstrap_repeats: int = Field(
        default=500, ge=20, le=10_000, description="resamples of an interval; slow metrics get fewer, which is recorded"
    )
    resample_by: Duration | None = Field(
        default=None,
        description="whole stretches of prediction time, such as 1d, are drawn, where rows of a day have something "
        "in common (weather, say); single rows by default",
    )
    costs: Costs | None = Field(
        default=None, description="what mistakes cost; they choose the threshold, which is 0.5 without them"
    )


class Sink(Spec):
    """Where predictions go beside the table of predictions: Parquet or CSV files, or a database.

    A file is named `<model>_<as_of>`; a database is written by SQLAlchemy, in whose way its address is given.
    """

    kind: Literal["parquet", "csv", "jdbc"] = Field(description="what is written")
    path: Text | None = Field(
        default=None, description="for parquet and csv: a folder, or s3://, gs://, abfs:// or hdfs:// and what follows"
    )
    url: Text | None = Field(
        default=None,
        description="for jdbc: jdbc:postgresql+psycopg2://user@host/db, say; a login belongs into a `${VAR}`. Drivers "
        "other than PostgreSQL's and SQLite's have to be installed",
    )
    table: Text | None = Field(
        default=None, description="for jdbc: the table, or `schema.table`; the table is made where it is missing"
    )


class Inference(Spec):
    """How entity rows are scored in batches."""

    sinks: list[Sink] = Field(default_factory=list, description="further places that get the predictions")
    keep: list[Name] = Field(default_factory=list, description="further entity columns kept with a prediction")


class DriftMethod(StrEnum):
    """How the distance between a column's distribution and its training profile is measured."""

    PSI = "psi"
    JENSEN_SHANNON = "jensen_shannon"
    WASSERSTEIN = "wasserstein"


class DriftRule(Spec):
    """A distance and the threshold above which it is an alert."""

    method: DriftMethod = Field(default=DriftMethod.PSI, description="how the distance is measured")
    threshold: float = Field(default=0.2, gt=0, description="a greater distance is drift")


class QualityRule(Spec):
    """How much worse than promised at promotion a metric may become before it is an alert."""

    metric: str = Field(description="a built-in metric or one of training.metrics")
    tolerance: float = Field(ge=0, description="by how much it may be worse, in the metric's unit")


class Monitoring(Spec):
    """What is watched, and the thresholds."""

    features: DriftRule = Field(default=DriftRule(), description="for each feature without a rule of its own")
    feature_rules: dict[Name, DriftRule] = Field(default_factory=dict, description="rules for single features")
    prediction: DriftRule = Field(default=DriftRule(), description="for the predictions")
    missing_share: float = Field(
        default=0.1, ge=0, le=1, description="rise of a feature's share of nulls that is an alert"
    )
    quality: list[QualityRule] = Field(default_factory=list, description="what was promised, and its tolerances")
    minimum_rows: int = Field(default=200, ge=1, description="fewer rows in a window give no verdict")


class RetrainingTrigger(StrEnum):
    """What may start a retraining. Drift of features alone only alerts."""

    QUALITY = "quality"
    PREDICTION_DRIFT = "prediction_drift"


class Retraining(Spec):
    """When a model is trained again."""

    triggers: list[RetrainingTrigger] = Field(
        default_factory=lambda: list(RetrainingTrigger), description="alerts that lead to it"
    )
    minimum_labelled_rows: int = Field(
        default=1000, ge=1, description="labels that must have arrived since the model's trained_until"
    )
    cool_down: Duration = Field(default=timedelta(days=7), description="least time between two retrainings, in as_of")
    mode: Literal["automatic", "manual"] = Field(
        default="automatic", description="automatic: decide and train; manual: decide and alert only"
    )


class Model(Spec):
    """A model: entity, label, lookups, and how it is trained, promoted, used and watched."""

    description: Text = Field(description="the question that it answers")
    owner: Text | None = Field(default=None, description="who answers for it; the project's owner by default")
    limits: str = Field(default="", description="what the model must not be used for; part of its description")
    tags: dict[str, str] = Field(default_factory=dict, description="tags of its registered model")
    entity: Entity = Field(description="what a prediction is about")
    label: Label = Field(description="the truth")
    lookups: list[Lookup] = Field(default_factory=list, description="features from feature tables")
    on_demand: dict[Name, OnDemand] = Field(
        default_factory=dict, description="features computed from the entity's row and looked-up values"
    )
    training: Training = Field(description="how a candidate is made")
    evaluation: Evaluation = Field(default=Evaluation(), description="how a candidate is measured")
    promotion: Promotion = Field(description="what lets a candidate into production")
    inference: Inference = Field(default=Inference(), description="where predictions go")
    monitoring: Monitoring = Field(default=Monitoring(), description="what is watched")
    retraining: Retraining = Field(default=Retraining(), description="when it is trained again")

    @model_validator(mode="after")
    def _something_to_follow_up(self) -> "Model":
        if self.promotion.follow_up is not None and not self.monitoring.quality:
            raise ValueError(
                "has promotion.follow_up, and no promise to hold it to: write rules in monitoring.quality, or leave "
                "follow_up out"
            )
        return self

    @property
    def feature_names(self) -> list[str]:
        """The columns that the model sees, in order: the entity's own, each lookup's, those computed on demand."""
        looked_up = [lookup.output_name(name) for lookup in self.lookups for name in lookup.features]
        return [*self.entity.features, *looked_up, *self.on_demand]
