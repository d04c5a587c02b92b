"""Code and model move apart: new code leaves the model in production alone, and a model waits for the code it needs."""

from datetime import timedelta

import lightgbm
import mlflow
import numpy as np
import pytest

from penstock.features import FeatureStore
from penstock.features.definition import definition_hash
from penstock.gates import Outcome
from penstock.inference.batch import score_batch
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import create_if_missing, read, read_arrow, upsert
from penstock.registry.comparison import compare_with_production
from penstock.registry.compliance import check_compliance
from penstock.registry.promotion import promote, stage_after_compliance
from penstock.registry.stages import Stage, current_production, stage_of
from penstock.runner import Request, Steps, train_and_register
from tests.integration.plant import MODEL, SECOND, Plant, checks

DAY = timedelta(days=1)


def declare_dampness(spec: dict) -> None:
    """The code of a new release: one more feature column, which the model is to see."""
    spec["feature_tables"]["machine_daily"]["columns"]["damp"] = "double"
    spec["models"][MODEL]["lookups"][0]["features"].append("damp")


def refresh_with_dampness(plant: Plant) -> None:
    """What the new release's feature refresh and backfill leave in the table."""
    path = plant.workspace.addresses.writable(f"{plant.project}.machine_daily")
    project = plant.workspace.project(plant.project)
    declared = project.spec.feature_tables["machine_daily"]
    create_if_missing(path, declared.columns, keys=["machine", "event_time"], description=declared.description)
    rows = read_arrow(path).drop_columns(["damp"])
    rows = rows.append_column("damp", [np.random.default_rng(1).normal(size=len(rows))])
    upsert(path, rows, ["machine", "event_time"], record(SECOND, definition=definition_hash(project, declared)))


def train(plant: Plant, as_of) -> int:
    """The training pipeline up to the registered version, with the code that is deployed."""
    request = Request(project=plant.project, model=MODEL, as_of=as_of)
    return train_and_register(plant.workspace, request, Steps(lambda *_: None))


def log_from_notebook(plant: Plant, **columns: object) -> int:
    """A model that a person fits on rows of their own, and logs under the declared model's name; its version."""
    store = FeatureStore(plant.project, plant.workspace)
    data = plant.trained.data
    rows = data["jobs"].merge(data["outcomes"][["machine", "job", "broke"]], on=["machine", "job"])
    rows = rows[rows.start.between(SECOND - 50 * DAY, SECOND - 7 * DAY)].assign(**columns)
    training_set = store.create_training_set(
        rows.drop(columns="known_at"), [{"table": "machine_daily", "features": ["heat"]}], label="broke",
        timestamp_key="start", exclude_columns=["machine", "job"], as_of=SECOND, name="by_hand",
    )  # fmt: skip
    features, label = training_set.features_and_label()
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, label), num_boost_round=15)
    made = store.log_model(booster, training_set, MODEL, flavor="lightgbm", requirements=["lightgbm"])
    mlflow.MlflowClient().update_model_version(made.name, str(made.version), description="Fitted by hand.")
    return made.version


def features_of(plant: Plant, version: int) -> set[str]:
    from penstock.training.scoring import load_scorer

    return set(load_scorer(plant.workspace, f"{plant.project}.{MODEL}", version).columns.names)


def scored(plant: Plant, as_of) -> tuple[set[int], int]:
    """Scores what came since; the versions that did, and how many rows."""
    jobs = plant.workspace.addresses.writable(f"{plant.project}.jobs")
    upsert(jobs, read_arrow(jobs).slice(0, 1), ["machine", "job"], record(as_of))  # the day's refresh
    score_batch(*plant.about, as_of)
    rows = read(plant.workspace.addresses.readable(f"{plant.project}.{MODEL}_predictions"))
    new = rows[rows.as_of == as_of]
    assert np.isfinite(new.prediction).all()
    return set(new.model_version), len(new)


@pytest.fixture
def in_production(plant: Plant) -> Plant:
    promote(*plant.about, plant.add("second"), "a test", "because", {}, SECOND)
    return plant


def test_new_code_with_an_unchanged_model_then_a_new_model_with_unchanged_code(in_production):
    plant = in_production
    old = current_production(*plant.about)
    assert scored(plant, SECOND + DAY) == ({old}, pytest.approx(50, abs=25))

    plant.edit(declare_dampness)  # released, and not refreshed yet: the column is in no table
    assert scored(plant, SECOND + 2 * DAY)[0] == {old}
    refresh_with_dampness(plant)
    assert scored(plant, SECOND + 3 * DAY)[0] == {old}
    assert features_of(plant, old) == {"kind", "load", "heat"}

    new = train(plant, SECOND + 5 * DAY)  # the same code again, on newer data: it sees the new column
    assert features_of(plant, new) == {"kind", "load", "heat", "damp"}
    compliance = check_compliance(*plant.about, new, SECOND + 5 * DAY)
    assert compliance.passed, compliance.to_markdown()
    verdict = compare_with_production(*plant.about, new, SECOND + 6 * DAY)
    assert checks(verdict)["better than heuristic"] == "pass", verdict.to_markdown()
    figures = next(found for found in verdict.checks if found.name == "not worse than production").evidence
    assert figures["candidate"] != figures["reference"], "each with its own features"
    promote(*plant.about, new, "a test", "because", verdict.to_dict(), SECOND + 6 * DAY)
    assert scored(plant, SECOND + 7 * DAY)[0] == {new}


def test_a_model_that_was_fitted_in_a_notebook_is_scored_about_the_declared_entity(in_production):
    plant = in_production
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(not_worse_by=0.5))
    scored(plant, SECOND + DAY)
    whole = plant.trained.data["jobs"].load.round().astype("int64")  # other types than the entity's table has
    made = log_from_notebook(plant, load=whole)
    compliance, comparison = plant.through_gates(made, SECOND)
    assert compliance.passed, compliance.to_markdown()
    assert "jobs.load (was bigint, is double)" in compliance.reason
    assert comparison.passed, comparison.to_markdown()
    assert scored(plant, SECOND + 2 * DAY)[0] == {made}


def test_a_model_of_a_notebook_that_takes_what_the_declared_entity_lacks_or_what_is_personal_is_refused(plant):
    def declare_personal(spec: dict) -> None:
        columns = spec["sources"]["jobs"]["columns"]
        columns["kind"] = {"type": "string", "personal": True}

    plant.edit(declare_personal)
    compliance = check_compliance(*plant.about, log_from_notebook(plant, mood=1.0), SECOND)
    failed = {name for name, outcome in checks(compliance).items() if outcome == "fail"}
    assert failed == {"features_declared", "features_in_lakehouse", "personal_data"}, compliance.to_markdown()
    assert f"does not declare {plant.project}.jobs.mood, which it needs" in compliance.reason
    assert f"{plant.project}.jobs.kind" in compliance.reason


def test_a_model_that_needs_a_feature_which_the_deployed_code_does_not_have_is_refused_with_the_reason(in_production):
    plant = in_production
    old = current_production(*plant.about)
    plant.edit(declare_dampness)
    refresh_with_dampness(plant)
    ahead = train(plant, SECOND + 5 * DAY)  # where the new code is; then registered where it is not deployed yet
    plant.edit(lambda spec: None)
    compliance = check_compliance(*plant.about, ahead, SECOND + 5 * DAY)
    assert compliance.outcome is Outcome.FAIL
    assert f"today's project does not declare {plant.project}.machine_daily.damp" in compliance.reason
    assert "deploy the code that does" in compliance.reason
    stage_after_compliance(*plant.about, ahead, compliance, SECOND + 5 * DAY)
    assert stage_of(*plant.about, ahead) is Stage.ARCHIVED
    assert current_production(*plant.about) == old
    assert scored(plant, SECOND + 6 * DAY)[0] == {old}

    plant.edit(declare_dampness)  # the code arrives: the same version passes
    compliance = check_compliance(*plant.about, ahead, SECOND + 6 * DAY)
    assert compliance.passed, compliance.to_markdown()
