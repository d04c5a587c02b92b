"""What training hands on: the matrix of features, and the record of how a model was made."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.features.training_records import Definition, content_digest
from penstock.features.training_set import TrainingSet
from penstock.lakehouse.git import CODE, project_digest
from penstock.spec.loading import load_project
from penstock.training import Block, TrainingError
from penstock.training.blocks import Boundaries, RowCounts
from penstock.training.trained_model import TrainedModel, Tuning
from tests.unit.spec_project import write_root


def block() -> Block:
    features = pd.DataFrame({
        "channel": pd.Categorical(["web", None, "app"], categories=["app", "shop", "web"]),
        "amount": [1.5, 2.0, np.nan],
    })  # fmt: skip
    return Block(features, np.array([0.0, 1.0, 0.0]), pd.Series(pd.date_range("2024-01-01", periods=3, tz="UTC")))


def test_a_matrix_holds_numbers_positions_of_categories_and_nan_for_null():
    matrix = block().matrix()
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array([[2, 1.5], [np.nan, 2], [0, np.nan]], dtype="float32"))


def test_a_matrix_leaves_the_block_as_it_was():
    found = block()
    found.matrix()[:] = 0
    pd.testing.assert_frame_equal(found.features, block().features)


def test_only_spark_models_get_spark_data_frames():
    with pytest.raises(TrainingError, match=r"only where training.flavor is spark"):
        block().spark()


@pytest.mark.parametrize(
    ("file", "shows"),
    [("models/back.py", True), ("models/shares.py", True), ("models/deep/base.py", True), ("models/other.py", False)],
)
def test_a_training_set_is_another_once_the_code_of_its_on_demand_features_is(
    tmp_path: Path, file: str, shows: bool
) -> None:
    root = write_root(tmp_path)
    project = load_project(root.path, "shop")
    models = project.folder / "models"
    (models / "deep").mkdir()
    (models / "back.py").write_text(
        "from .shares import SHARE\nfrom . import deep\n" + (models / "back.py").read_text()
    )
    (models / "shares.py").write_text("from .deep.base import SHARE\nfrom .back import train\n")
    (models / "deep/__init__.py").write_text("from . import base\n")
    (models / "deep/base.py").write_text("SHARE = 1\n")
    (models / "other.py").write_text("SHARE = 1\n")
    definition = Definition.of_model("comes_back", project.model("comes_back"))
    before = content_digest(project, definition)
    (project.folder / file).write_text((project.folder / file).read_text() + "# changed\n")
    assert (content_digest(project, definition) != before) is shows
    without = definition.model_copy(update={"on_demand": {}})
    assert content_digest(project, without) == without.digest


def record(tuning: Tuning) -> TrainedModel:
    return TrainedModel(
        "run", "models:/m-1", "shop", "late", "2024-04-01T00:00:00Z", "2024-03-18T00:00:00Z", {"tune_rmse": 1.0},
        {"depth": 3}, TrainingSet("shop.t", 0, "/t", "", {}, 3, "", "", None), Boundaries("a", "b", "c"),
        RowCounts(1, 1, 1), None, 0.5, tuning,
    )  # fmt: skip


def test_a_record_survives_json():
    made = record(Tuning("wide", 3, 40, 17, 3, "the minutes were over"))
    assert TrainedModel.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_a_record_from_before_tuning_was_recorded_can_be_read():
    values = record(Tuning()).to_dict()
    for name in ("tuning", "sampling"):
        del values[name]
    assert TrainedModel.from_dict(values) == record(Tuning())


@pytest.mark.parametrize(
    ("limit", "sampling", "said"),
    [
        (None, "newest", "All its 9 rows were used."),
        (20, "random", "All its 9 rows were used."),
        (3, "newest", "Only the newest 3 of its 9 rows were used."),
        (3, "random", "Of its 9 rows 3 were used: the training block is drawn at random (seed 7), tuning and hold-out"),
    ],
)
def test_a_record_says_which_rows_were_used(limit, sampling, said):
    rows = RowCounts(1, 1, 1) if limit == 3 else RowCounts(5, 2, 2)
    made = replace(record(Tuning()), newest_rows=limit, sampling=sampling, rows=rows)
    assert replace(made, training_set=replace(made.training_set, rows=9)).rows_used.startswith(said)


def test_digests_of_a_project_stay_what_they_were(tmp_path):
    """Another digest would train every model anew, and take no version's code for what it was trained with."""
    (tmp_path / "b").mkdir()
    for name, text in (("a.py", "a = 1\n"), ("b/c.py", "c = 2\n"), ("d.sql", "SELECT 1\n"), ("notes.md", "no code")):
        (tmp_path / name).write_text(text)
    assert project_digest(tmp_path, CODE) == "812ce2ca5b18f69ad729fc140ae7637d12bf9c1890d6f8d7497168a1bede441b"
    assert project_digest(tmp_path) == "491ed14cfb230f78eeac49fbb621c4d46cb0dcd1f5a91d5d05f3394b4fa3eaec"
