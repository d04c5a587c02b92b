"""The pages, over real Delta tables; Airflow's simple auth manager decides who may read."""

import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

import pytest
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from penstock.features import FeatureStore
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import create_if_missing, to_arrow, upsert, write_system_rows
from penstock.lakehouse.system_tables import SystemTable
from penstock.registry.freezing import freeze
from penstock.spec.project import Column
from penstock.ui import airflow_facts, catalogue
from penstock.ui.airflow_facts import Question, RunFact
from penstock.ui.app import app
from penstock.ui.lineage_picture import draw_lineage
from penstock.workspace import Connections, Workspace

AS_OF = datetime(2020, 5, 1, tzinfo=UTC)
RUN = "shop.feature_refresh/manual__2020-05-01T00:00:00+00:00"
PROJECT = """\
name: shop
description: What <b>customers</b> buy.
owner: shop@example.com
sources:
  orders:
    description: An order & its amount.
    primary_keys: [id]
    available_at: known_at
    columns: {id: int, note: {type: string, description: free text}, known_at: timestamp}
models:
  comes_back:
    description: Will a customer come back?
    entity: {table: orders, keys: [id], prediction_time: known_at, features: [note]}
    label: {name: back, table: orders, expression: id > 1}
    training: {function: models.train, metric: log_loss}
    promotion: {metric: log_loss}
"""
HTML = {"accept": "text/html"}


class QuietAirflow:
    """An Airflow with one run and one open question."""

    def last_runs(self, dag_ids: list[str]) -> dict[str, RunFact]:
        return {dag_ids[0]: RunFact(dag_ids[0], "manual__1", "success", AS_OF)}

    def questions(self, dag_ids: list[str]) -> list[Question]:
        wanted = "shop.comes_back.model_promotion"
        found = Question(wanted, "promote__comes_back__2", "approval", "Version 2 to production?", AS_OF)
        return [found] if wanted in dag_ids else []


def fill(workspace: Workspace, inputs: dict[str, int] | None = None) -> None:
    import pandas as pd

    path = workspace.addresses.writable("shop.orders")
    kinds = {"id": "int", "note": {"type": "string", "description": "free text"}, "known_at": "timestamp"}
    columns = {name: Column.model_validate(kind) for name, kind in kinds.items()}
    create_if_missing(path, columns, keys=["id"], description="orders")
    frame = pd.DataFrame({
        "id": range(30), "note": ["<script>alert(1)</script>"] * 30,
        "known_at": [datetime(2020, 4, 1 + day % 30, 6, 30, tzinfo=UTC) for day in range(30)],
    })  # fmt: skip
    rows = to_arrow(frame, {name: column.type for name, column in columns.items()}, "orders")
    upsert(path, rows, ["id"], record(AS_OF, inputs or {"shop.deliveries": 3}, run=RUN))


def write_report(workspace: Workspace, folder: str, name: str, page: str, verdict: str = "") -> None:
    place = Path(workspace.environment.lakehouse.root) / "shop" / "_reports" / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.html").write_text(page)
    if verdict:
        (place / f"{name}.json").write_text(verdict)


@pytest.fixture
def workspace(tmp_path: Path, repository: Path) -> Workspace:
    (tmp_path / "include/projects/shop").mkdir(parents=True)
    (tmp_path / "include/projects/shop/project.yaml").write_text(PROJECT)
    found = Workspace.open("dev", repository)
    place = found.environment.lakehouse.model_copy(update={"root": str(tmp_path / "lakehouse")})
    nobody = Connections(spark_url="sc://127.0.0.1:1", mlflow_uri="http://127.0.0.1:1")
    environment = found.environment.model_copy(update={"lakehouse": place})
    return found.with_(root=tmp_path, environment=environment, connections=nobody)


@pytest.fixture
def pages(workspace: Workspace) -> Iterator[TestClient]:
    """The pages as Airflow mounts them, for a user with the role viewer."""
    create_auth_manager()
    airflow = FastAPI()
    airflow.mount("/penstock", app)
    app.dependency_overrides = {
        get_user: lambda: SimpleAuthManagerUser(username="ada", role="viewer"),
        catalogue.open_workspace: lambda: workspace,
        airflow_facts.airflow_facts: QuietAirflow,
    }
    with TestClient(airflow, base_url="http://airflow", follow_redirects=False, headers=HTML) as client:
        yield client
    app.dependency_overrides = {}
    purge_cached_app()


class TestLogin:
    """Nobody sees anything without Airflow's login."""

    @pytest.fixture(autouse=True)
    def _logged_out(self, pages: TestClient) -> None:
        del app.dependency_overrides[get_user]

    @pytest.mark.parametrize(
        "path", ["", "tables/shop/orders", "reports/shop/orders/x", "static/penstock.css", "no/such/page"]
    )
    def test_a_browser_is_sent_to_airflows_login_and_back(self, pages: TestClient, path: str) -> None:
        answer = pages.get(f"/penstock/{path}")
        assert answer.status_code == 307
        wanted = f"/penstock/{path}".replace("/", "%2F")
        assert answer.headers["location"] == f"/api/v2/auth/login?next={wanted}"

    @pytest.mark.parametrize("path", ["", "tables/shop/orders", "no/such/page"])
    def test_a_program_gets_401(self, pages: TestClient, path: str) -> None:
        assert pages.get(f"/penstock/{path}", headers={"accept": "application/json"}).status_code == 401

    def test_no_route_escapes_the_check(self) -> None:
        from penstock.ui.access import current_reader

        assert [dependency.dependency for dependency in app.router.dependencies] == [current_reader]
        methods = {method for route in app.routes for method in getattr(route, "methods", ())}
        assert methods <= {"GET", "HEAD"}


class TestLineage:
    """A picture of what a table was made from, and of what uses it."""

    def test_shows_sources_and_models_with_links(self, pages: TestClient, workspace: Workspace) -> None:
        fill(workspace)
        text = pages.get("/penstock/lineage/shop/orders").text
        assert 'href="/penstock/tables/shop/orders"' in text
        assert 'href="/penstock/models/shop/comes_back"' in text
        assert "shop.deliveries" in text
        assert "made from, version 3" in text
        assert 'href="/penstock/lineage/shop/orders"' in pages.get("/penstock/tables/shop/orders").text

    def test_what_the_user_may_not_read_is_left_out(self, workspace: Workspace) -> None:
        fill(workspace, {"shop.deliveries": 3, "payroll.salaries": 1})
        picture = draw_lineage(workspace, "shop.orders", lambda project: project == "shop")
        assert {box.node.id for box in picture.boxes} == {"shop.orders", "shop.deliveries", "model:shop.comes_back"}

    def test_a_table_of_records_has_none(self, pages: TestClient) -> None:
        assert pages.get("/penstock/lineage/shop/deployments").status_code == 404


class TestRights:
    """Who may not read a project's DAGs sees nothing of it."""

    @pytest.fixture(autouse=True)
    def _without_rights(self, pages: TestClient) -> None:
        app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="eve", role=None)

    @pytest.mark.parametrize(
        "path",
        ["", "tables/shop/orders", "tables/nothing/orders", "models/shop/comes_back", "compliance/shop/comes_back/1"],
    )
    def test_gets_403_and_whom_to_ask(self, pages: TestClient, path: str) -> None:
        answer = pages.get(f"/penstock/{path}")
        assert answer.status_code == 403
        assert "Ask an administrator" in answer.text

    def test_a_dag_id_in_the_query_changes_nothing(self, pages: TestClient) -> None:
        assert pages.get("/penstock/tables/shop/orders?dag_id=other.dag").status_code == 403


class TestOverview:
    """What is there, and what is not there yet."""

    def test_shows_tables_with_version_rows_and_newest_time(self, pages: TestClient, workspace: Workspace) -> None:
        fill(workspace)
        text = pages.get("/penstock/").text
        assert '<td class="number">1</td><td class="number">30</td>' in text
        assert "2020-04-30 06:30" in text
        assert 'href="/penstock/tables/shop/orders"' in text

    def test_shows_tables_that_people_made(self, pages: TestClient, workspace: Workspace) -> None:
        import pandas as pd

        frame = pd.DataFrame({"who": ["a"], "at": pd.to_datetime(["2020-04-01"], utc=True), "mood": [0.5]})
        FeatureStore("shop", workspace).create_table(
            "moods", "who", "at", df=frame, description="Moods of <i>customers</i>."
        )
        text = pages.get("/penstock/").text
        assert 'href="/penstock/tables/shop/moods"' in text
        assert "tables made by hand" in text.lower()
        assert "Moods of &lt;i&gt;customers&lt;/i&gt;." in pages.get("/penstock/tables/shop/moods").text

    def test_works_before_anything_ran(self, pages: TestClient) -> None:
        text = pages.get("/penstock/").text
        assert "not there yet" in text
        assert "No window was monitored yet" in text

    def test_says_that_mlflow_is_down(self, pages: TestClient) -> None:
        assert "MLflow at http://127.0.0.1:1 does not answer" in pages.get("/penstock/").text

    def test_links_to_dags_and_to_the_open_question(self, pages: TestClient) -> None:
        text = pages.get("/penstock/").text
        assert 'href="/dags/shop.feature_refresh"' in text
        run = "/dags/shop.comes_back.model_promotion/runs/promote__comes_back__2"
        assert f'href="{run}/tasks/approval/required_actions"' in text

    def test_links_keep_the_path_below_which_airflow_lives(self, pages: TestClient) -> None:
        outer = FastAPI()
        outer.mount("/airflow", pages.app)
        text = TestClient(outer, headers=HTML).get("/airflow/penstock/").text
        assert 'href="/airflow/dags/shop.feature_refresh"' in text
        assert 'href="/airflow/penstock/static/penstock.css"' in text

    def test_shows_decisions_with_reasons(self, pages: TestClient, workspace: Workspace) -> None:
        common = {"model": "comes_back", "as_of": AS_OF, "run": RUN}
        window = {"model_version": 1, "window_start": datetime(2020, 4, 1, tzinfo=UTC), "window_end": AS_OF}
        write = {
            SystemTable.MONITORING_METRICS: {**window, "kind": "volume", "column": "", "metric": "rows", "rows": 70},
            SystemTable.ALERTS: {**window, "kind": "quality", "column": "", "metric": "log_loss", "message": "worse"},
            SystemTable.RETRAINING_DECISIONS: {"decision": "retrain", "reasons": '["worse than promised"]'},
        }
        for table, row in write.items():
            path = workspace.addresses.writable(f"shop.{table}")
            write_system_rows(path, table, [{**common, **row}], record(AS_OF))
        text = pages.get("/penstock/").text
        assert "70 predictions" in text
        assert "worse than promised" in text
        assert '<span class="badge fail">quality</span> worse' in text

    def test_the_model_page_shows_a_freeze_and_where_it_is_lifted(
        self, pages: TestClient, workspace: Workspace
    ) -> None:
        address = "/penstock/models/shop/comes_back"
        assert "Frozen" not in pages.get(address).text
        freeze(workspace, "shop", "comes_back", "Ann", "the <fair> is on", AS_OF)
        text = pages.get(address).text
        assert "<strong>Frozen</strong> by Ann" in text
        assert "the &lt;fair&gt; is on" in text
        assert 'href="/dags/shop.comes_back.promotion_control"' in text
        assert "Other decisions" in text

    def test_a_broken_project_leaves_the_others(self, pages: TestClient, workspace: Workspace) -> None:
        folder = workspace.root / "include/projects/broken"
        folder.mkdir()
        (folder / "project.yaml").write_text("name: broken\ndescription: x\nowner: y\nsorces: {}\n")
        text = pages.get("/penstock/").text
        assert "sorces" in text
        assert "tables/shop/orders" in text
        answer = pages.get("/penstock/tables/broken/orders")
        assert answer.status_code == 409
        assert "penstock validate" in answer.text


class TestTables:
    """A table's page."""

    def test_shows_columns_inputs_history_and_rows(self, pages: TestClient, workspace: Workspace) -> None:
        fill(workspace)
        text = pages.get("/penstock/tables/shop/orders").text
        for part in ("free text", "shop.deliveries", "version 3", "30 added", "20 of 30 rows"):
            assert part in text
        assert 'href="/dags/shop.feature_refresh/runs/manual__2020-05-01T00%3A00%3A00%2B00%3A00"' in text

    def test_escapes_what_the_data_and_the_declaration_say(self, pages: TestClient, workspace: Workspace) -> None:
        fill(workspace)
        assert "<script>alert" not in pages.get("/penstock/tables/shop/orders").text
        assert "<b>customers" not in pages.get("/penstock/").text
        assert "<img" not in pages.get("/penstock/tables/shop/%3Cimg%20src=x%3E").text

    def test_one_that_is_not_there_yet_names_its_dag(self, pages: TestClient) -> None:
        answer = pages.get("/penstock/tables/shop/orders")
        assert answer.status_code == 404
        assert "shop.feature_refresh" in answer.text

    def test_a_damaged_one_is_a_page_too(self, pages: TestClient, workspace: Workspace) -> None:
        log = Path(workspace.addresses.writable("shop.orders")) / "_delta_log"
        log.mkdir(parents=True)
        (log / "00000000000000000000.json").write_text("no log")
        assert pages.get("/penstock/tables/shop/orders").status_code == 503
        overview = pages.get("/penstock/")
        assert overview.status_code == 200
        assert "shop.orders cannot be read" in overview.text

    @pytest.mark.parametrize("table", ["nothing", "_staging_orders", "..", "%2e%2e%2fsecret", "orders%00"])
    def test_unknown_names_are_refused(self, pages: TestClient, workspace: Workspace, table: str) -> None:
        fill(workspace)
        assert pages.get(f"/penstock/tables/shop/{table}").status_code == 404


class TestReports:
    """Reports are shown as they were written, with nothing in them alive."""

    def test_the_newest_comes_first_and_others_are_listed(self, pages: TestClient, workspace: Workspace) -> None:
        verdict = json.dumps({"verdict": {"outcome": "warn", "reason": "2 bad rows"}, "run": RUN})
        write_report(workspace, "orders", "2020-04-01T000000.000000Z", "old")
        write_report(workspace, "orders", "2020-05-01T000000.000000Z", "new", verdict)
        answer = pages.get("/penstock/reports/shop/orders")
        assert 'src="/penstock/reports/shop/orders/2020-05-01T000000.000000Z"' in answer.text
        assert "at=2020-04-01T000000.000000Z" in answer.text
        assert '<span class="badge warn">warn</span>' in answer.text
        assert "2 bad rows" in pages.get("/penstock/").text
        old = pages.get("/penstock/reports/shop/orders?at=2020-04-01T000000.000000Z")
        assert 'src="/penstock/reports/shop/orders/2020-04-01T000000.000000Z"' in old.text

    def test_a_report_runs_nothing(self, pages: TestClient, workspace: Workspace) -> None:
        write_report(workspace, "comes_back/monitoring", "2020-05-01T000000Z", "<script>alert(1)</script>")
        answer = pages.get("/penstock/monitoring/shop/comes_back/2020-05-01T000000Z")
        policy = answer.headers["content-security-policy"]
        assert answer.text == "<script>alert(1)</script>"
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert policy.endswith("sandbox")
        assert " sandbox " in pages.get("/penstock/monitoring/shop/comes_back").text

    @pytest.mark.parametrize("path", ["reports/shop/orders", "monitoring/shop/comes_back"])
    def test_before_the_first_report_the_page_says_what_makes_one(self, pages: TestClient, path: str) -> None:
        answer = pages.get(f"/penstock/{path}")
        assert answer.status_code == 404
        assert "The DAG shop." in answer.text

    @pytest.mark.parametrize(
        "name", ["..%2f..%2forders", "%2e%2e", "2020-04-01T000000.000000Z%2f..", "x.html", "somebody_elses"]
    )
    def test_only_listed_names_are_read(self, pages: TestClient, workspace: Workspace, name: str) -> None:
        write_report(workspace, "orders", "somebody_elses", "private")
        write_report(workspace, "orders", "2020-05-01T000000.000000Z", "new")
        assert pages.get(f"/penstock/reports/shop/orders/{name}").status_code == 404
        assert pages.get(f"/penstock/reports/shop/orders?at={name}").status_code == 404


class TestModel:
    """A model's page."""

    def test_shows_the_audit_the_comparison_and_its_reasons(self, pages: TestClient, workspace: Workspace) -> None:
        common = {"model": "comes_back", "as_of": AS_OF, "run": RUN}
        evidence = '{"compliance": {"checks": [{"name": "loads", "outcome": "pass", "detail": "asks for 3"}]}}'
        move = {"transition_id": "1", "version": 2, "from_stage": "None", "to_stage": "Staging", "state": "completed",
                "decided_by": "ada", "reason": "all well", "evidence": evidence, "requested_at": AS_OF}  # fmt: skip
        duel = {"candidate_version": 2, "method": "heuristic", "reference": "heuristic", "metric": "log_loss",
                "slice": "all", "candidate_value": 0.5, "lower": 0.05, "upper": 0.15, "alpha": 0.05,
                "reference_value": 0.6, "better_by": 0.1, "required_better_by": 0.0, "rows": 900,
                "verdict": "pass", "reason": "better than guessing"}  # fmt: skip
        part = {**duel, "slice": "<b>=1", "verdict": "warn", "reason": None}
        without = {"candidate_version": 2, "method": "holdout", "reference": "production", "metric": "log_loss",
                   "slice": "<b>=2", "verdict": "info", "rows": 3, "reason": "<b>=1 was not compared"}  # fmt: skip
        moves = [(SystemTable.DEPLOYMENTS, move)]
        for table, row in (*moves, *((SystemTable.MODEL_COMPARISONS, found) for found in (duel, part, without))):
            path = workspace.addresses.writable(f"shop.{table}")
            write_system_rows(path, table, [{**common, **row}], record(AS_OF))
        text = pages.get("/penstock/models/shop/comes_back").text
        for part in ("all well", "<strong>loads</strong>: asks for 3", "better than guessing", "the heuristic", "ada"):
            assert part in text
        assert text.count("<circle") == 2, "the metric and the slice, with their intervals"
        assert "&lt;b&gt;=1 was not compared" in text
        assert "<b>" not in text

    def test_compliance_of_a_version_with_evidence_and_distribution(
        self, pages: TestClient, workspace: Workspace
    ) -> None:
        assert "was not checked yet" in pages.get("/penstock/compliance/shop/comes_back/2").text
        check = {"name": "size", "outcome": "fail", "detail": "too <large>",
                 "evidence": {"severity": "block", "severity_by": "project.yaml", "bytes": 7}}  # fmt: skip
        series = {"name": "version 2 on shop.x@3", "rows": 900, "mean": 0.25, "shares": [0.75, 0.25]}
        report = {"version": 2, "as_of": "2020-05-01T00:00:00Z", "run": RUN, "project": "shop", "model": "comes_back",
                  "verdict": {"outcome": "fail", "checks": [check]},
                  "distribution": {"edges": [0.0, 0.5, 1.0], "series": [series]}}  # fmt: skip
        folder = Path(workspace.addresses.writable("shop._reports")) / "comes_back" / "compliance"
        folder.mkdir(parents=True)
        (folder / "2.json").write_text(json.dumps(report))
        text = pages.get("/penstock/compliance/shop/comes_back/2").text
        for part in ("too &lt;large&gt;", "(project.yaml)", "version 2 on shop.x@3", "0.5 to 1: 25.0%", "900 rows"):
            assert part in text
        assert pages.get("/penstock/compliance/shop/nothing/2").status_code == 404

    def test_an_unknown_one_says_which_there_are(self, pages: TestClient) -> None:
        answer = pages.get("/penstock/models/shop/nothing")
        assert answer.status_code == 404
        assert "comes_back" in answer.text


class TestCards:
    """Model cards come from MLflow, asked for by run or version."""

    @pytest.mark.parametrize("query", ["", "?run=abc&version=1"])
    def test_either_a_run_or_a_version_is_asked_for(self, pages: TestClient, query: str) -> None:
        answer = pages.get(f"/penstock/cards/shop/comes_back{query}")
        assert answer.status_code == 404
        assert "Give ?version=3" in answer.text

    @pytest.mark.parametrize("run", ["..%2f..%2fetc", "abc", "A" * 32, "a" * 31 + "%00"])
    def test_what_is_no_run_id_reaches_nobody(self, pages: TestClient, run: str) -> None:
        assert pages.get(f"/penstock/cards/shop/comes_back?run={run}").status_code == 404
        assert pages.get(f"/penstock/cards/shop/comes_back/{run}").status_code == 404
        assert pages.get(f"/penstock/cards/shop/comes_back?version={run}").status_code == 404

    @pytest.mark.parametrize("path", [f"?run={'a' * 32}", "?version=1", "/" + "a" * 32])
    def test_without_mlflow_the_page_says_so(self, pages: TestClient, path: str) -> None:
        answer = pages.get(f"/penstock/cards/shop/comes_back{path}")
        assert answer.status_code == 503
        assert "MLflow does not answer" in answer.text

    def test_who_may_not_read_the_project_gets_403(self, pages: TestClient) -> None:
        app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="eve", role=None)
        assert pages.get(f"/penstock/cards/shop/comes_back/{'a' * 32}").status_code == 403


def test_pages_allow_nothing_from_elsewhere_and_framing_by_airflow_only(pages: TestClient) -> None:
    headers = pages.get("/penstock/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"
    text = pages.get("/penstock/").text
    assert "style=" not in text
    assert "http://" not in text.replace("http://127.0.0.1:1", "")


def test_links_of_tasks_lead_below_airflows_own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.operators.links import MlflowRunLink, ReportLink, TableLink

    stored: dict[str, str] = {}
    context = {"ti": SimpleNamespace(xcom_push=lambda key, value: stored.update({key: value}))}
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    TableLink.store(context, "shop.orders")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    ReportLink.store(context, "shop", "orders")
    monkeypatch.setenv("PENSTOCK_MLFLOW_PAGES_URL", "http://people:5000/")
    MlflowRunLink.store(context, "http://mlflow:5000", "1", "abc")
    assert stored == {
        TableLink().xcom_key: "/airflow/penstock/tables/shop/orders",
        ReportLink().xcom_key: "/penstock/reports/shop/orders",
        MlflowRunLink().xcom_key: "http://people:5000/#/experiments/1/runs/abc",
    }
