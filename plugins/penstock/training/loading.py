"""Reads the rows of a training set: all, or as many as an environment wants; refuses what does not fit in memory.

Rows come from Parquet by Arrow. Which of them stay is decided on their keys and times alone, so that a training set of
any size is sampled without holding it.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of
from penstock.features.training_set import TrainingSet, in_order
from penstock.spec.environment import Limits
from penstock.spec.project import Sampling, Training
from penstock.training.blocks import PREDICTION_TIME, Boundaries, Split, split
from penstock.training.errors import TrainingError
from penstock.training.trained_model import TrainedModel
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pyarrow.dataset import Dataset

logger = logging.getLogger(__name__)

GIGABYTE = 1e9
_COPIES = 3  # Arrow's, pandas', and the prepared features; a learner's own comes on top of them
_SHARE_OF_FREE = 0.7  # of what is free; the rest is for the learner and everybody else
_MEASURED_ROWS = 10_000
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class RowLimit:
    """How many rows of a training set are used (None: all), and which."""

    rows: int | None = None
    sampling: Sampling = Sampling.NEWEST
    seed: int = 7

    @classmethod
    def of(cls, training: Training, limits: Limits) -> "RowLimit":
        """What an environment and a model's declaration say."""
        return cls(limits.training_rows, training.sampling, training.seed)


def load_split(
    training_set: TrainingSet, boundaries: Boundaries, limit: RowLimit, memory_gb: float | None = None, *,
    recorded: bool = False,
) -> Split:  # fmt: skip
    """The blocks of a training set, or of its rows within `limit`.

    The newest rows are those of the whole; random ones are drawn with the seed from the training block, beside whole
    tuning and hold-out blocks. The same table version, boundaries and limit: the same rows.
    Raises TrainingError where they would take more than `memory_gb` (by default what is free). `recorded`: the limit
    is that of a finished training, so nobody can declare a smaller one.
    """
    from penstock.lakehouse.small_tables import open_dataset

    dataset = open_dataset(training_set.path, training_set.version)
    total = dataset.count_rows()
    table = f"{training_set.table}@{training_set.version}"
    kept = total if limit.rows is None else min(total, limit.rows)
    check_memory(table, kept, bytes_per_row(dataset), memory_gb, dataset.schema.names, recorded=recorded)
    if kept == total:
        frame = dataset.to_table().to_pandas()
    else:
        frame = _take(dataset, _chosen(dataset, boundaries, limit, kept))
        logger.info("%s: %s of %s rows, %s", table, f"{len(frame):,}", f"{total:,}", limit.sampling)
    return split(in_order(frame, PREDICTION_TIME), boundaries)


def recorded_rows(workspace: Workspace, trained: TrainedModel, training_set: TrainingSet) -> Split:
    """The blocks that a recorded model was trained with, read from `training_set`. Raises as `load_split`."""
    limit = RowLimit(trained.newest_rows, Sampling(trained.sampling), trained.tuning.seed)
    memory_gb = workspace.environment.limits.training_memory_gb
    return load_split(training_set, trained.boundaries, limit, memory_gb, recorded=True)


def where_it_lies(workspace: Workspace, training_set: TrainingSet) -> TrainingSet:
    """A recorded training set with the place that its table has in this workspace."""
    return replace(training_set, path=workspace.addresses.readable(training_set.table))


def check_memory(
    table: str, rows: int, width: float, memory_gb: float | None, columns: list[str], *, recorded: bool = False
) -> None:
    """Raises TrainingError where rows of `width` bytes need more memory than there is, with what would fit; where they
    are `recorded`, all of them have to.
    """
    free = memory_gb if memory_gb is not None else free_bytes() * _SHARE_OF_FREE / GIGABYTE
    needed = rows * width * _COPIES / GIGABYTE
    if needed <= free:
        return
    fitting = int(free * GIGABYTE / (width * _COPIES))
    remedy = (
        "The model was trained with these very rows: declare a larger limits.training_memory_gb in the environment, or "
        "run this where there is more memory"
        if recorded else
        f"Declare limits.training_rows in the environment (about {fitting:,} fit; training.sampling says which), a "
        "shorter training.window, or a larger limits.training_memory_gb"
    )  # fmt: skip
    raise TrainingError(
        f"{table}: {rows:,} rows of {len(columns)} columns take some {needed:.3g} GB while they are learned from, and "
        f"{free:.3g} GB may be used here. {remedy}"
    )


def bytes_per_row(dataset: "Dataset") -> float:
    """What a row takes as a pandas DataFrame, measured on the first rows."""
    head = dataset.head(_MEASURED_ROWS).to_pandas()
    return float(head.memory_usage(deep=True, index=False).sum()) / max(1, len(head))


def free_bytes() -> float:
    """The memory that is free on this machine, or in the container that this process runs in."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _chosen(dataset: "Dataset", boundaries: Boundaries, limit: RowLimit, kept: int) -> "np.ndarray":
    """Which rows stay: a mask in the order in which the dataset is read."""
    import numpy as np

    names = dataset.schema.names
    order = in_order_positions(dataset.to_table(columns=names[: names.index(PREDICTION_TIME) + 1]).to_pandas())
    mask = np.zeros(len(order), dtype=bool)
    if limit.sampling is Sampling.NEWEST:
        mask[order.index[-kept:]] = True
        return mask
    older = order.to_numpy() <= np.datetime64(parse_as_of(boundaries.tune_after).replace(tzinfo=None))
    learned, judged = order.index[older], order.index[~older]
    mask[judged] = True
    wanted = max(0, kept - len(judged))
    drawn = np.random.default_rng(limit.seed).choice(len(learned), size=min(wanted, len(learned)), replace=False)
    mask[learned[drawn]] = True
    return mask


def in_order_positions(keys: "pd.DataFrame") -> "pd.Series":
    """Prediction times in order (without a zone), by each row's position among those given."""
    ordered = keys.sort_values([PREDICTION_TIME, *(name for name in keys if name != PREDICTION_TIME)], kind="stable")
    return ordered[PREDICTION_TIME].dt.tz_convert(None)


def _take(dataset: "Dataset", mask: "np.ndarray") -> "pd.DataFrame":
    import pyarrow as pa

    parts, offset = [], 0
    for batch in dataset.to_batches():
        end = offset + batch.num_rows
        parts.append(batch.filter(pa.array(mask[offset:end])))
        offset = end
    return pa.Table.from_batches(parts, schema=dataset.schema).to_pandas()
