"""What training leaves behind: a reference to the run and its model, and how the data were cut."""

from dataclasses import asdict, dataclass
from typing import Any

from penstock.features.training_set import TrainingSet
from penstock.spec.model import Sampling
from penstock.training.blocks import Boundaries, RowCounts

FILE_NAME = "trained_model.json"


@dataclass(frozen=True)
class Tuning:
    """How the parameters were found, as it came out; with them and the seed one fit makes the model again.

    search: `wide`, `best` (of training.best), `declared` (nothing to choose) or `given`. seed: of everything that
    draws lots. chosen: the number of the best of the trials (from 0). folds: blocks that a trial was measured on.
    stopped: why fewer trials were made than planned.
    """

    search: str = "declared"
    seed: int = 7
    trials: int = 1
    chosen: int = 0
    folds: int = 1
    stopped: str | None = None


@dataclass(frozen=True)
class TrainedModel:
    """A finished training run; JSON values throughout, also kept in the run as trained_model.json.

    model_uri: `models:/<id>`. metrics: of the tuning block, by names `tune_<metric>`. parameters: those of
    the best trial. label_mean: of the training block. newest_rows: the environment's limit, None for all; sampling:
    which rows those are. code_digest: of the project's files; records of older versions lack it.
    """

    run_id: str
    model_uri: str
    project: str
    model: str
    as_of: str
    trained_until: str
    metrics: dict[str, float]
    parameters: dict[str, Any]
    training_set: TrainingSet
    boundaries: Boundaries
    rows: RowCounts
    newest_rows: int | None
    label_mean: float
    tuning: Tuning = Tuning()
    sampling: str = "newest"
    code_digest: str | None = None

    @property
    def rows_used(self) -> str:
        """Which rows of the training set its blocks hold, as a sentence."""
        used, total = self.rows.training + self.rows.tuning + self.rows.hold_out, self.training_set.rows
        if self.newest_rows is None or used >= total:
            return f"All its {total:,} rows were used."
        if self.sampling == Sampling.RANDOM:
            return (
                f"Of its {total:,} rows {used:,} were used: the training block is drawn at random (seed "
                f"{self.tuning.seed}), tuning and hold-out blocks are whole."
            )
        return f"Only the newest {used:,} of its {total:,} rows were used."

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainedModel":
        """The reverse of `to_dict`."""
        nested = {
            "training_set": TrainingSet(**values["training_set"]),
            "boundaries": Boundaries(**values["boundaries"]),
            "rows": RowCounts(**values["rows"]),
            "tuning": Tuning(**values.get("tuning", {})),
        }
        return cls(**{**values, **nested})
