"""Batch inference: each entity row once, by the version in production, and honest where there is nothing to do."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from penstock.cli import app
from penstock.errors import NothingToDo, ServiceError, SpecError
from penstock.features.landing import land_source
from penstock.features.training_set import build_training_set, read_training_set
from penstock.features.watermarks import watermark
from penstock.inference.batch import ScoredBatch, score_batch
from penstock.inference.sinks import publish
from penstock.lakehouse import session
from penstock.lakehouse.addresses import Address
from penstock.runner import Request, run_pipeline
from penstock.workspace import Connections, Lineage, SessionKey, Workspace
from tests.integration.refreshing import copy_root, moment, refresh, rows

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = ["park", "turbine", "starts_at"]
Make = Callable[..., Workspace]


@pytest.fixture(scope="module")
def promoted(stack: Connections, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project of its own name, with a version in production as of 2024-02-10 and raw data until 2024-02-14."""
    folder = tmp_path_factory.mktemp("parks")
    root = copy_root(folder)
    (root / "include/projects/wind_parks").rename(root / "include/projects/batch_parks")
    declaration = root / "include/projects/batch_parks/project.yaml"
    text = declaration.read_text().replace("name: wind_parks", "name: batch_parks")
    database = f'{{kind: jdbc, url: "jdbc:sqlite:///{folder}/scores.db", table: energy}}'
    files = f"{{kind: csv, path: {folder}/out}}, {{kind: parquet, path: {folder}/out}}"
    sinks = f"    inference:\n      sinks: [{files}, {database}]\n    promotion:"
    declaration.write_text(text.replace("    promotion:", sinks, 1))
    found = Workspace.open("dev", root)
    place = found.environment.lakehouse.model_copy(update={"root": str(folder / "lakehouse")})
    workspace = found.with_(
        environment=found.environment.model_copy(update={"lakehouse": place, "replay_clock": None}), connections=stack
    )
    refresh(workspace, "2024-02-10", "batch_parks")
    request = Request("batch_parks", "energy", moment("2024-02-10"), approved_by="engineer", reason="to begin with")
    run_pipeline(workspace, "training", request, lambda *_: None)
    refresh(workspace, "2024-02-14T07:00", "batch_parks")
    return workspace


def test_without_a_production_version_it_says_so(make_workspace: Make, tmp_path: Path) -> None:
    root = copy_root(tmp_path)
    (root / "include/projects/wind_parks").rename(root / "include/projects/fresh_parks")
    declaration = root / "include/projects/fresh_parks/project.yaml"
    declaration.write_text(declaration.read_text().replace("name: wind_parks", "name: fresh_parks"))
    with pytest.raises(NothingToDo, match="no version in production"):
        score_batch(make_workspace(root), "fresh_parks", "energy", moment("2024-02-10"))


def test_each_entity_row_is_scored_once_whatever_the_steps(promoted: Workspace) -> None:
    first = score_batch(promoted, "batch_parks", "energy", moment("2024-02-11"))
    assert first.after == "2024-02-10T00:00:00Z"
    second = score_batch(promoted, "batch_parks", "energy", moment("2024-02-14T07:00"))
    again = score_batch(promoted, "batch_parks", "energy", moment("2024-02-14T07:00"))
    assert (again.rows, again.version) == (second.rows, second.version)  # the same run, killed before it published
    other_run = promoted.with_(lineage=Lineage(run="another"))
    with pytest.raises(NothingToDo, match="scored up to 2024-02-14T07:00:00Z"):
        score_batch(other_run, "batch_parks", "energy", moment("2024-02-14T07:00"))
    predictions = rows(promoted, "energy_predictions", KEYS, "batch_parks")
    slots = rows(promoted, "slots", KEYS, "batch_parks")
    due = slots[
        (slots["starts_at"] > pd.Timestamp("2024-02-10", tz="UTC"))
        & (slots["starts_at"] <= pd.Timestamp("2024-02-14T07:00", tz="UTC"))
    ]
    assert first.rows + second.rows == len(due)
    pd.testing.assert_frame_equal(
        predictions[KEYS].reset_index(drop=True), due[KEYS].reset_index(drop=True), check_dtype=False
    )
    assert {"label", "energy"}.isdisjoint(predictions.columns)  # the scorer never sees labels
    assert predictions["prediction"].notna().all()
    assert set(predictions["model_version"]) == {1}


def test_sinks_get_the_batch_once(promoted: Workspace) -> None:
    path = promoted.addresses.readable("batch_parks.energy_predictions")
    from penstock.lakehouse.small_tables import read, version

    newest = read(path)["as_of"].max()
    batch = ScoredBatch(
        "batch_parks.energy_predictions", version(path), 0, 1, "", newest.isoformat().replace("+00:00", "Z")
    )
    written = publish(promoted, "batch_parks", "energy", batch)["sinks"]
    again = publish(promoted, "batch_parks", "energy", batch)["sinks"]
    assert written == again
    csv, parquet = (pd.read_csv(written[0]), pd.read_parquet(written[1]))
    expected = int((read(path)["as_of"] == newest).sum())
    assert len(csv) == len(parquet) == expected > 0
    with sqlite3.connect(Path(written[0]).parents[1] / "scores.db") as scores:
        assert scores.execute("SELECT count(*) FROM energy").fetchone() == (expected,)


def test_status_in_a_container_shows_tables_and_versions_of_the_services_that_it_is_given(
    promoted: Workspace, stack: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(promoted.root, tmp_path / "root"))
    shutil.copy(REPOSITORY / "include/environments/dev.yaml", root / "include/environments/dev.yaml")
    given = {
        "PENSTOCK_HOME": str(tmp_path), "PENSTOCK_ROOT": str(root), "PENSTOCK_SPARK_URL": stack.spark_url,
        "PENSTOCK_MLFLOW_URL": stack.mlflow_uri, "PENSTOCK_LAKEHOUSE_ROOT": promoted.environment.lakehouse.root,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": str(stack.spark_token or ""),
        "MLFLOW_TRACKING_USERNAME": str(stack.mlflow_username or ""),
        "MLFLOW_TRACKING_PASSWORD": str(stack.mlflow_password or ""),
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {name: one["state"] for name, one in said["services"].items()} == {"spark": "up", "mlflow": "up"}
    parks = said["projects"]["batch_parks"]
    assert parks["tables"]["turbine_daily"]["rows"] > 0
    assert [(one["version"], one["stage"]) for one in parks["models"]["energy"]["versions"]] == [(1, "Production")]


def test_of_a_corrected_entity_and_label_the_newest_known_counts(promoted: Workspace) -> None:
    refresh(promoted, "2024-02-15", "batch_parks")
    about = {"park": ["north"], "turbine": [1]}
    append(promoted, "slots", {**about, "starts_at": "2024-02-14T12:00", "capacity": [50.0]}, "2024-02-14T01:00")
    for energy, known in ((99.0, "2024-02-14T20:00"), (11.0, "2024-02-16"), (12.0, None)):  # only the first is known
        append(promoted, "yields", {**about, "starts_at": "2024-02-12", "energy": [energy]}, known)
    batch = score_batch(promoted, "batch_parks", "energy", moment("2024-02-15"))
    predictions = rows(promoted, "energy_predictions", KEYS, "batch_parks")
    assert (batch.rows, predictions.duplicated(KEYS).sum()) == (6 * 9, 0)  # from 09:00 to midnight
    assert predictions.set_index(KEYS)["capacity"]["north", 1, pd.Timestamp("2024-02-14T12:00", tz="UTC")] == 50.0
    made = build_training_set(promoted, "batch_parks", "energy", moment("2024-02-15"))
    labels = read_training_set(made).set_index(KEYS)["label"]
    assert labels.index.is_unique
    assert labels["north", 1, pd.Timestamp("2024-02-12", tz="UTC")] == 99.0
    assert made.warnings == [
        "1 entity row(s) and 1 label(s) were superseded: of each the newest counts that was known at as_of",
        "1 row(s) of batch_parks.yields have no known_at: unused",
    ]


def score(workspace: Workspace, as_of: str) -> ScoredBatch:
    return score_batch(workspace, "batch_parks", "energy", moment(as_of))


def as_task(workspace: Workspace, run: str, try_number: int = 1) -> Workspace:
    """The workspace of a try of the task `score` in a DAG run."""
    return workspace.with_(lineage=Lineage(run=run), session_key=SessionKey(f"{run}/score/-1", try_number))


def scored_slots(workspace: Workspace, after: str, until: str) -> bool:
    """Whether each slot of a window has exactly one prediction."""
    found, slots = (rows(workspace, name, KEYS, "batch_parks")[KEYS] for name in ("energy_predictions", "slots"))
    bounds = pd.Timestamp(after, tz="UTC"), pd.Timestamp(until, tz="UTC")
    found, slots = (frame[frame["starts_at"].between(*bounds, inclusive="right")] for frame in (found, slots))
    return len(slots) > 0 and found.sort_values(KEYS).values.tolist() == slots.drop_duplicates().values.tolist()


def test_a_task_that_was_killed_finds_its_batch_though_the_inputs_had_not_come_so_far(promoted: Workspace) -> None:
    refresh(promoted, "2024-02-15T06:00", "batch_parks")
    first = score(as_task(promoted, "batch_parks.energy.batch_inference/a"), "2024-02-15T12:00")
    assert (first.after, first.as_of) == ("2024-02-15T00:00:00Z", "2024-02-15T06:00:00Z")
    refresh(promoted, "2024-02-15T09:00", "batch_parks")  # between the tries
    again = score(as_task(promoted, "batch_parks.energy.batch_inference/a", 2), "2024-02-15T12:00")
    assert again == first
    rest = score(as_task(promoted, "batch_parks.energy.batch_inference/b"), "2024-02-15T12:00")
    assert (rest.after, rest.as_of) == (first.as_of, "2024-02-15T09:00:00Z")
    with pytest.raises(NothingToDo, match="scored up to 2024-02-15T09:00:00Z"):
        score(as_task(promoted, "batch_parks.energy.batch_inference/c"), "2024-02-15T12:00")
    assert scored_slots(promoted, "2024-02-15", "2024-02-15T09:00")


def test_outside_airflow_the_same_run_answers_the_same_batch(promoted: Workspace) -> None:
    refresh(promoted, "2024-02-15T12:00", "batch_parks")
    assert score(promoted, "2024-02-15T13:00") == score(promoted, "2024-02-15T14:00")


def test_entity_rows_that_land_late_are_scored_though_other_tables_had_come_further(promoted: Workspace) -> None:
    for source in ("conditions", "yields"):  # the landing of slots failed
        land_source(promoted, "batch_parks", source, moment("2024-02-15T18:00"))
    with pytest.raises(NothingToDo, match="scored up to 2024-02-15T12:00:00Z"):
        score(promoted.with_(lineage=Lineage(run="another")), "2024-02-15T18:00")
    refresh(promoted, "2024-02-15T21:00", "batch_parks")
    assert score(promoted, "2024-02-15T21:00").as_of == "2024-02-15T21:00:00Z"
    assert scored_slots(promoted, "2024-02-15T12:00", "2024-02-15T21:00")


def test_a_landing_that_finds_nothing_holds_up_no_score_and_passes_no_row_by(promoted: Workspace) -> None:
    slots = Address("batch_parks", "slots")
    for hour in ("22:30", "22:45", "22:30"):
        with pytest.raises(NothingToDo):
            land_source(promoted, "batch_parks", "slots", moment(f"2024-02-15T{hour}"))
    assert watermark(promoted, slots) == moment("2024-02-15T22:45")
    append(promoted, "slots", {"park": ["north"], "turbine": [9], "starts_at": "2024-02-15T22:35", "capacity": [1.0]},
           "2024-02-15T20:00")  # fmt: skip
    batch = score(promoted, "2024-02-15T23:00")
    assert (batch.rows, batch.as_of) == (1, "2024-02-15T22:45:00Z")
    assert land_source(promoted, "batch_parks", "slots", moment("2024-02-16")).rows == 9
    assert watermark(promoted, slots) == moment("2024-02-16")


def test_a_lookup_that_is_declared_and_not_filled_yet_stops_no_score(promoted: Workspace) -> None:
    declaration = promoted.root / "include/projects/batch_parks/project.yaml"
    before = declaration.read_text()
    lookup = "      - {table: gusts, keys: {park: park}, features: [gust], max_age: 1d}\n    training:"
    table = (
        "  gusts: {description: g, primary_keys: [park], inputs: [conditions],\n"
        "          function: features.park_wind.transform,\n"
        "          columns: {park: string, event_time: timestamp, gust: double}}\n"
        "\nmodels:"
    )
    declaration.write_text(before.replace("    training:", lookup, 1).replace("\nmodels:", table, 1))
    changed = Workspace.open("dev", promoted.root).with_(
        environment=promoted.environment, connections=promoted.connections
    )
    try:
        assert [item.table for item in changed.project("batch_parks").model("energy").lookups][-1] == "gusts"
        assert score(changed, "2024-02-16").rows > 0
    finally:
        declaration.write_text(before)


def append(workspace: Workspace, source: str, row: dict[str, Any], known_at: str | None) -> None:
    """Appends a row to a raw table, as another system would."""
    path = workspace.addresses.readable(f"batch_parks.{source}")
    times = {name: [pd.Timestamp(value, tz="UTC")] for name, value in row.items() if isinstance(value, str)}
    frame = pd.DataFrame({**row, **times, "known_at": pd.to_datetime([known_at], utc=True)})
    write_deltalake(path, frame.astype({"turbine": "int32"}), mode="append")


def test_spark_down_is_a_clear_error_that_names_the_address(
    promoted: Workspace, stack: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_RETRIES", 2)  # of eight, which take twenty seconds for each table
    away = promoted.with_(connections=replace(stack, spark_url="sc://localhost:1"))
    with pytest.raises(ServiceError, match="sc://localhost:1.*penstock status"):
        refresh(away, "2024-02-20", "batch_parks")
    said = dict(refresh(promoted, "2024-02-20", "batch_parks"))  # a later run mends it
    assert "rows" in said["turbine_daily.merge"]


@pytest.mark.parametrize(
    ("pipeline", "project", "model", "known"),
    [
        ("training", "nobody", "energy", "batch_parks"),
        ("training", "batch_parks", "nothing", "energy"),
        ("tuning", "batch_parks", "energy", "feature_refresh"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    promoted: Workspace, pipeline: str, project: str, model: str, known: str
) -> None:
    with pytest.raises(SpecError, match=known):
        run_pipeline(promoted, pipeline, Request(project, model, moment("2024-02-10")), lambda *_: None)
