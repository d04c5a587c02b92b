"""Rows of a training set: which of them stay, and what does not fit in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from deltalake import write_deltalake

from penstock.features.training_set import TrainingSet
from penstock.spec.environment import Limits
from penstock.spec.project import Sampling, Training
from penstock.training import TrainingError
from penstock.training.blocks import Boundaries, Split
from penstock.training.loading import RowLimit, check_memory, free_bytes, load_split, recorded_rows
from penstock.training.trained_model import TrainedModel
from penstock.workspace import Workspace
from tests.unit.spec_project import write_root
from tests.unit.test_training_blocks import AS_OF, training

ROWS = 600


@pytest.fixture
def kept(tmp_path: Path) -> TrainingSet:
    """Rows in disorder, in two files, two at each prediction time."""
    times = pd.date_range(end=AS_OF, periods=ROWS // 2, freq="4h", unit="us").repeat(2)
    frame = pd.DataFrame({"id": np.arange(ROWS), "prediction_time": times, "label": np.arange(ROWS) % 2.0})
    frame["text"] = [f"text {number}" for number in frame["id"]]
    mixed = frame.sample(frac=1, random_state=3)
    for part in (mixed[:400], mixed[400:]):
        write_deltalake(str(tmp_path / "t"), part.reset_index(drop=True), mode="append")
    return TrainingSet("p.t", 1, str(tmp_path / "t"), "", {}, ROWS, "", "", 0.5)


def load(kept: TrainingSet, limit: RowLimit | None = None, memory_gb: float | None = None) -> Split:
    return load_split(kept, Boundaries.of(training(), AS_OF), limit or RowLimit(), memory_gb)


def everything(found: Split) -> pd.DataFrame:
    return pd.concat([found.training, found.tuning, found.hold_out])


def test_without_a_limit_all_rows_are_there_in_order(kept):
    assert everything(load(kept))["id"].tolist() == list(range(ROWS))


def test_the_newest_rows_stay(kept):
    found = everything(load(kept, RowLimit(201)))
    assert found["id"].tolist() == list(range(ROWS - 201, ROWS))
    assert found["text"].tolist() == [f"text {number}" for number in found["id"]]


def test_random_rows_are_drawn_from_the_training_block_beside_whole_later_blocks(kept):
    whole, found = load(kept), load(kept, RowLimit(300, Sampling.RANDOM))
    assert found.tuning["id"].tolist() == whole.tuning["id"].tolist()
    assert found.hold_out["id"].tolist() == whole.hold_out["id"].tolist()
    assert found.rows.training == 300 - found.rows.tuning - found.rows.hold_out
    drawn = found.training["id"]
    assert drawn.is_monotonic_increasing
    assert drawn.is_unique
    assert drawn.min() < 50  # some of the oldest are among them
    assert set(drawn) < set(whole.training["id"])


def test_the_same_seed_draws_the_same_rows_however_the_files_lie(kept, tmp_path):
    drawn = load(kept, RowLimit(300, Sampling.RANDOM)).training
    write_deltalake(str(tmp_path / "again"), everything(load(kept)).reset_index(drop=True))
    again = load(replace(kept, path=str(tmp_path / "again"), version=0), RowLimit(300, Sampling.RANDOM)).training
    assert again["id"].tolist() == drawn["id"].tolist()
    assert load(kept, RowLimit(300, Sampling.RANDOM, 8)).training["id"].tolist() != drawn["id"].tolist()


def test_what_does_not_fit_is_refused_before_it_is_read_with_what_would(kept):
    with pytest.raises(TrainingError, match=r"p.t@1: 600 rows of 4 columns take some .* GB .*limits.training_rows"):
        load(kept, memory_gb=1e-5)
    assert load(kept, RowLimit(30), memory_gb=1e-5).rows.hold_out == 30  # fewer rows do


def test_the_message_says_how_many_rows_fit():
    with pytest.raises(TrainingError, match=r"1,000,000,000 rows .* 300 GB .* and 3 GB .*about 10,000,000 fit"):
        check_memory("p.t@1", 1_000_000_000, 100.0, 3.0, ["a"])


def test_rows_that_the_record_of_a_training_fixes_need_the_memory_whatever_is_declared(kept, tmp_path):
    found = Workspace.open("dev", write_root(tmp_path / "root").path)
    small = found.environment.model_copy(update={"limits": Limits(training_memory_gb=1e-5)})
    boundaries = Boundaries.of(training(), AS_OF)
    trained = TrainedModel("r", "m", "p", "m", "", "", {}, {}, kept, boundaries, load(kept).rows, None, 0.5)
    with pytest.raises(TrainingError, match="very rows: declare a larger limits.training_memory_gb") as refused:
        recorded_rows(found.with_(environment=small), trained, kept)
    assert "training_rows" not in str(refused.value), "a smaller limit now would make no smaller training then"


def test_by_default_what_is_free_on_the_machine_counts():
    free = free_bytes()
    assert 0 < free <= psutil.virtual_memory().total
    check_memory("p.t@1", 1000, 100.0, None, ["a"])
    with pytest.raises(TrainingError, match="may be used here"):
        check_memory("p.t@1", int(free / 100), 100.0, None, ["a"])


def test_the_limit_is_the_environments_and_the_declarations():
    spec = Training.model_validate({"function": "m.f", "metric": "rmse", "sampling": "random", "seed": 3})
    assert RowLimit.of(spec, Limits(training_rows=500)) == RowLimit(500, Sampling.RANDOM, 3)
