"""Stages and their audit: transitions, what they displace, and what is refused."""

import json
import os
import uuid
from datetime import timedelta

import pytest

from penstock.errors import GateError, RegistryError, ServiceError
from penstock.lakehouse.small_tables import read
from penstock.registry.deployments import transition
from penstock.registry.freezing import freeze
from penstock.registry.holds import holds
from penstock.registry.stages import Stage, current_production, stage_of, versions
from penstock.workspace import Connections
from tests.integration.shelf import AS_OF, make_shelf

__all__ = ["make_shelf"]


def test_a_version_goes_through_the_stages_and_displaces_the_former_one(make_shelf):
    shelf = make_shelf()
    assert current_production(shelf.workspace, shelf.project, shelf.model) is None
    shelf.move(1, Stage.STAGING)
    assert shelf.registered.aliases() == {"staging": 1}
    first = shelf.move(1, Stage.PRODUCTION)
    assert (first.from_stage, first.to_stage, first.displaced, first.production) == ("Staging", "Production", None, 1)
    shelf.move(2, Stage.STAGING)
    second = shelf.move(2, Stage.PRODUCTION, reason="it is better")
    assert second.displaced == 1
    assert current_production(shelf.workspace, shelf.project, shelf.model) == 2
    stages = [v.stage for v in versions(shelf.workspace, shelf.project, shelf.model)]
    assert stages == ["Archived", "Production", "None"]
    assert stage_of(shelf.workspace, shelf.project, shelf.model, 3) is Stage.NONE
    assert shelf.state["stages"] == {1: "Archived", 2: "Production", 3: None}
    table = read(shelf.workspace.addresses.readable(f"{shelf.project}.deployments"))
    assert list(table.state.unique()) == ["completed"]
    displaced = table[(table.version == 1) & (table.to_stage == "Archived")].iloc[0]
    assert displaced.reason == "displaced in Production by version 2"
    row = table[table.transition_id == second.transition_id].iloc[0]
    assert json.loads(row.evidence)["n"] == 1
    assert (row.decided_by, row.reason, row.as_of) == ("a test", "it is better", AS_OF)


def test_the_same_request_again_changes_nothing(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    before = shelf.state
    again = shelf.move(1, Stage.PRODUCTION)
    assert again.repeated
    assert again.production == 2
    assert shelf.move(2, Stage.PRODUCTION, AS_OF + timedelta(days=1)).repeated, "it is there already"
    assert shelf.state == before
    asked_again = shelf.move(1, Stage.PRODUCTION, cause="by hand, after all")
    assert not asked_again.repeated
    assert shelf.state["aliases"] == {"production": 1}


def test_production_cannot_be_left_empty(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    before = shelf.state
    for stage in (Stage.ARCHIVED, Stage.STAGING):
        with pytest.raises(GateError, match="promote another version, or roll back"):
            shelf.move(1, stage)
    assert shelf.state == before


def test_an_unknown_version_is_refused(make_shelf):
    shelf = make_shelf()
    with pytest.raises(RegistryError, match="version 9"):
        shelf.move(9, Stage.STAGING)
    with pytest.raises(RegistryError, match="version 1"):
        transition(shelf.workspace, shelf.project, "nothing", 1, Stage.STAGING, "a test", "because", {}, AS_OF)
    assert shelf.rows == ()
    assert versions(shelf.workspace, shelf.project, "nothing") == []


def test_a_newer_candidate_displaces_the_older_in_staging(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.STAGING)
    assert shelf.move(2, Stage.STAGING).displaced == 1
    assert shelf.state["stages"] == {1: "Archived", 2: "Staging", 3: None}


def test_mlflow_down_is_a_clear_error_and_the_next_run_mends(make_shelf, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shelf = make_shelf()
    here = shelf.workspace.resolved
    away = shelf.workspace.with_(connections=Connections(here.spark_url, "http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match=r"MLflow did not answer.*penstock status"):
        transition(away, shelf.project, shelf.model, 1, Stage.PRODUCTION, "a test", "because", {}, AS_OF)
    shelf.move(1, Stage.PRODUCTION)
    assert shelf.registered.aliases() == {"production": 1}


def test_a_login_that_mlflow_refuses_is_named_with_the_remedy(make_shelf, monkeypatch):
    import httpx

    shelf = make_shelf(1)
    registered, server = shelf.registered, shelf.workspace.resolved.mlflow_uri
    admin = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    reader = {"username": f"reader_{uuid.uuid4().hex[:8]}", "password": "no more than reads"}
    with httpx.Client(base_url=f"{server}/api/2.0/mlflow/users", auth=admin, trust_env=False) as users:
        users.post("/create", json=reader).raise_for_status()
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", reader["username"])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", reader["password"])
        assert len(registered.versions()) == 1, "whoever has a login may read"
        with pytest.raises(ServiceError, match=f"MLflow refuses {reader['username']}. Give a login that may do this"):
            registered.tag(1, {"colour": "red"})
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
        with pytest.raises(ServiceError, match=f"MLflow refuses {reader['username']}"):
            registered.versions()
        users.request("DELETE", "/delete", json={"username": reader["username"]}).raise_for_status()


def test_an_audit_of_before_there_were_notes_is_read_and_grows_the_column(make_shelf):
    from deltalake import DeltaTable, write_deltalake

    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    path = shelf.workspace.addresses.readable(f"{shelf.project}.deployments")
    rows = DeltaTable(path).to_pyarrow_table().drop_columns(["kind"])
    write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite")
    assert [row.version for row in shelf.rows] == [1]
    assert shelf.move(2, Stage.PRODUCTION).displaced == 1
    freeze(*shelf.about, "Ann", "now")
    assert holds(*shelf.about).frozen.decided_by == "Ann"
