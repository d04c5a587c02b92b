"""The three blocks in time of a training set: train, tune, hold out."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of, to_text
from penstock.spec.project import Task, Training
from penstock.training.errors import TrainingError
from penstock.training.matrices import to_matrix

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame

    from penstock.training.spark_ml import SparkSide

PREDICTION_TIME = "prediction_time"
LABEL = "label"


@dataclass(frozen=True)
class Block:
    """What a project's training function gets: rows of one stretch of time, oldest first.

    features: a column for each of the model's features, in their declared order. Numbers and booleans are
    float64 with NaN for null; strings are pandas categories, whose values are those of the training block
    (in every block the same; a value that the training block does not have is null).
    label: float64, 0 or 1 for classification. prediction_time: UTC timestamps. weight: of each row, or
    None where all count the same.
    """

    features: "pd.DataFrame"
    label: "np.ndarray"
    prediction_time: "pd.Series"
    weight: "np.ndarray | None" = None
    side: "SparkSide | None" = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.features)

    def matrix(self) -> "np.ndarray":
        """The features as float32 of shape (n, k): a category is its position from 0, null is NaN."""
        return to_matrix(self.features)

    def spark(self) -> "DataFrame":
        """The features (strings and doubles, null for missing), `label` and `prediction_time` as a Spark DataFrame.

        Raises TrainingError unless training.flavor is spark.
        """
        if self.side is None:
            raise TrainingError("blocks are Spark DataFrames only where training.flavor is spark")
        return self.side.frame(self.features, label=self.label, prediction_time=self.prediction_time)


@dataclass(frozen=True)
class Boundaries:
    """Where the blocks meet; each is a UTC moment as text and belongs to the block before it."""

    tune_after: str
    hold_out_after: str
    until: str

    @classmethod
    def of(cls, training: Training, as_of: datetime) -> "Boundaries":
        """Counted back from as_of: first the hold-out block, before it the tuning block."""
        hold_out_after = as_of - training.hold_out
        return cls(to_text(hold_out_after - training.tune), to_text(hold_out_after), to_text(as_of))

    @property
    def trained_until(self) -> str:
        """The end of the tuning block: the model has seen no row after it."""
        return self.hold_out_after


@dataclass(frozen=True)
class RowCounts:
    """The number of rows of each block."""

    training: int
    tuning: int
    hold_out: int

    def __str__(self) -> str:
        return f"{self.training} rows to train, {self.tuning} to tune, {self.hold_out} held out"


@dataclass(frozen=True)
class Split:
    """The rows of a training set by block, with its columns as they were."""

    training: "pd.DataFrame"
    tuning: "pd.DataFrame"
    hold_out: "pd.DataFrame"
    boundaries: Boundaries

    @property
    def rows(self) -> RowCounts:
        """How many rows each block has."""
        return RowCounts(len(self.training), len(self.tuning), len(self.hold_out))


def split(frame: "pd.DataFrame", boundaries: Boundaries) -> Split:
    """The blocks of a training set that is sorted by prediction time."""
    time = frame[PREDICTION_TIME]
    tune_after, hold_out_after, until = (
        parse_as_of(text) for text in (boundaries.tune_after, boundaries.hold_out_after, boundaries.until)
    )
    return Split(
        training=frame[time <= tune_after],
        tuning=frame[(time > tune_after) & (time <= hold_out_after)],
        hold_out=frame[(time > hold_out_after) & (time <= until)],
        boundaries=boundaries,
    )


@dataclass(frozen=True)
class Fold:
    """Rows to learn from, and the later ones to judge by."""

    training: "pd.DataFrame"
    tuning: "pd.DataFrame"


def folds(found: Split, training: Training, table: str) -> list[Fold]:
    """`training.folds` blocks of length `training.tune`, oldest first; the last is the split's own tuning block.

    Each is learned from everything before it. Raises TrainingError where the oldest has too little to learn from.
    """
    made = [Fold(found.training, found.tuning)]
    rows, end = found.training, parse_as_of(found.boundaries.tune_after)
    for number in range(2, training.folds + 1):
        start = end - training.tune
        time = rows[PREDICTION_TIME]
        fold = Fold(rows[time <= start], rows[(time > start) & (time <= end)])
        if len(fold.training) < training.minimum_rows or not len(fold.tuning):
            raise TrainingError(
                f"{table}: fold {number} of {training.folds} has {len(fold.training)} rows to train on up to "
                f"{to_text(start)} and {len(fold.tuning)} to judge by: training.minimum_rows is "
                f"{training.minimum_rows}. Declare fewer training.folds, a shorter training.tune or a longer window"
            )
        made.insert(0, fold)
        rows, end = fold.training, start
    return made


def check_split(found: Split, training: Training, table: str) -> None:
    """Raises TrainingError where the blocks are too small, or their labels cannot be learned from."""
    limits = found.boundaries
    empty = [name for name, rows in (("tuning", found.tuning), ("hold-out", found.hold_out)) if not len(rows)]
    if empty:
        raise TrainingError(
            f"{table}: the {' and the '.join(empty)} block is empty ({found.rows}; tuning after "
            f"{limits.tune_after}, hold-out after {limits.hold_out_after}). Labels may not have arrived yet: "
            "train at a later as_of, or declare longer training.tune and training.hold_out"
        )
    if len(found.training) < training.minimum_rows:
        raise TrainingError(
            f"{table}: {len(found.training)} rows to train on, training.minimum_rows is "
            f"{training.minimum_rows} ({found.rows}; trained up to {limits.tune_after}). Wait for more labels, "
            "declare a longer training.window or shorter training.tune and training.hold_out, or raise the "
            "environment's limits.training_rows"
        )
    _check_labels(found, training, table)


def _check_labels(found: Split, training: Training, table: str) -> None:
    import numpy as np

    labels = np.concatenate([part[LABEL] for part in (found.training, found.tuning, found.hold_out)])
    labels = labels.astype("float64")
    bad = int((~np.isfinite(labels)).sum())
    if bad:
        raise TrainingError(f"{table}: {bad} of {len(labels)} labels are null or infinite: mend label.expression")
    if training.task is not Task.CLASSIFICATION:
        return
    strange = np.setdiff1d(np.unique(labels), [0.0, 1.0])
    if len(strange):
        raise TrainingError(
            f"{table}: a classification label is 0 or 1, but {', '.join(f'{x:g}' for x in strange[:5])} occurs. "
            "Make label.expression a condition, or declare training.task: regression"
        )
    positives = int(labels[: len(found.training)].sum())
    if positives in (0, len(found.training)):
        raise TrainingError(
            f"{table}: all {len(found.training)} labels of the training block are {int(positives > 0)}: there is "
            "nothing to tell apart. Declare a longer training.window, or mend label.expression"
        )
