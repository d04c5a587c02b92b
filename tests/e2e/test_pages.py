"""The pages inside a real Airflow: who may see them, what they show, and that a browser gets there."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from penstock.airflow_rest import DagRun
from penstock.home import read_credentials
from penstock.workspace import Workspace
from tests.e2e.conftest import RunningAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROJECT, TABLE, MODEL = "wind_parks", "turbine_daily", "energy"
REFRESH = f"{PROJECT}.feature_refresh"
HTML = {"accept": "text/html"}
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def refreshed(airflow: RunningAirflow, workspace: Workspace) -> DagRun:
    """A run that filled the feature table."""
    if workspace.addresses.find(f"{PROJECT}.{TABLE}") is None:
        assert airflow.run(REFRESH, {"as_of": "2024-02-10"}).state == "success"
    runs = [run for run in airflow.client.runs(dag_id=REFRESH) if run.state == "success"]
    filled = [run for run in runs if airflow.client.tasks(run)[f"{TABLE}.merge"] == "success"]
    assert filled
    return filled[0]


def pages(airflow: RunningAirflow, username: str | None = None) -> httpx.Client:
    """A client of the pages, with somebody's token or without one."""
    client = httpx.Client(base_url=f"{airflow.url}/penstock", headers=HTML, timeout=60)
    if username:
        login = read_credentials("dev").airflow.login(username)
        body = {"username": login.username, "password": login.password}
        token = httpx.post(f"{airflow.url}/auth/token", json=body).json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
    return client


@pytest.fixture
def viewer(airflow: RunningAirflow) -> Iterator[httpx.Client]:
    """The pages for somebody who may only look."""
    with pages(airflow, "scientist") as client:
        yield client


@pytest.mark.parametrize("path", ["/", f"/tables/{PROJECT}/{TABLE}", f"/models/{PROJECT}/{MODEL}", "/anything"])
def test_without_a_login_a_browser_goes_to_airflows_own_and_a_program_gets_401(
    airflow: RunningAirflow, path: str
) -> None:
    with pages(airflow) as nobody:
        sent = nobody.get(path)
        assert sent.status_code == 307
        assert sent.headers["location"] == f"/api/v2/auth/login?next={quote('/penstock' + path, safe='')}"
        form = nobody.get(f"{airflow.url}{sent.headers['location']}", follow_redirects=True)
        assert form.status_code == 200
        assert form.url.path == "/auth/login"
        assert nobody.get(path, headers={"accept": "application/json"}).status_code == 401
        assert nobody.get(path, headers={"authorization": "Bearer nonsense", "accept": "*/*"}).status_code == 403


def test_a_viewer_sees_every_project_table_and_model(viewer: httpx.Client, refreshed: DagRun) -> None:
    overview = viewer.get("/")
    assert overview.status_code == 200
    for part in (PROJECT, f"tables/{PROJECT}/{TABLE}", f"models/{PROJECT}/{MODEL}", f"/dags/{REFRESH}"):
        assert part in overview.text
    assert "does not answer" not in overview.text


def test_a_table_tells_what_it_is_and_which_run_made_it(viewer: httpx.Client, refreshed: DagRun) -> None:
    page = viewer.get(f"/tables/{PROJECT}/{TABLE}")
    assert page.status_code == 200
    for part in ("mean_energy", "Made from", "yields", f"/dags/{REFRESH}/runs/{quote(refreshed.run_id, safe='')}"):
        assert part in page.text


def test_tasks_link_to_pages_that_are_there(
    airflow: RunningAirflow, viewer: httpx.Client, refreshed: DagRun
) -> None:  # fmt: skip
    for task, link in ((f"{TABLE}.merge", "Table"), (f"{TABLE}.validate", "Quality report"), ("land.yields", None)):
        path = f"/dags/{REFRESH}/dagRuns/{refreshed.run_id}/taskInstances/{task}/links"
        links = airflow.client.call("GET", path)["extra_links"]
        address = links[link or "Quality report"]
        assert address.startswith("/penstock/")
        assert viewer.get(f"{airflow.url}{address}").status_code == 200


@pytest.fixture(scope="module")
def trained(airflow: RunningAirflow, refreshed: DagRun) -> DagRun:
    """A run that registered a version."""
    dag_id = f"{PROJECT}.{MODEL}.training"
    found = [run for run in airflow.client.runs(dag_id=dag_id) if run.state == "success"]
    run = found[0] if found else airflow.run(dag_id, {"as_of": "2024-02-10"})
    assert run.state == "success"
    return run


def test_the_tasks_of_training_link_to_the_model_card(
    airflow: RunningAirflow, viewer: httpx.Client, trained: DagRun
) -> None:
    path = f"/dags/{trained.dag_id}/dagRuns/{trained.run_id}/taskInstances"
    addresses = {
        airflow.client.call("GET", f"{path}/{task}/links")["extra_links"]["Model card"]
        for task in ("evaluate", "explain", "profile", "register")
    }
    (address,) = addresses  # all of them to the card of the same run
    page = viewer.get(f"{airflow.url}{address}")
    assert page.status_code == 200
    source = page.text.partition('src="/penstock/cards/')[2].partition('"')[0]
    card = viewer.get(f"/cards/{source}")
    assert f"<h1>{PROJECT}.{MODEL}, version " in card.text
    assert card.text.count("data:image/png;base64,") >= 4
    listed = viewer.get(f"/models/{PROJECT}/{MODEL}").text
    assert f"/penstock/cards/{PROJECT}/{MODEL}?version=" in listed


def test_the_quality_report_comes_as_it_was_written_with_nothing_alive_in_it(
    viewer: httpx.Client, refreshed: DagRun
) -> None:
    page = viewer.get(f"/reports/{PROJECT}/{TABLE}")
    source = page.text.partition('src="/penstock/reports/')[2].partition('"')[0]
    report = viewer.get(f"/reports/{source}")
    assert "<h2>Checks</h2>" in report.text
    assert report.headers["content-security-policy"].endswith("sandbox")


@pytest.mark.parametrize(
    "path",
    [
        "/tables/..%2f..%2fetc/passwd", f"/tables/{PROJECT}/..%2f..%2f..%2fcredentials.json",
        f"/tables/{PROJECT}/_reports",
        f"/reports/{PROJECT}/{TABLE}/..%2f..%2f..%2f..%2fcredentials.json", f"/reports/{PROJECT}/%2e%2e/x",
        f"/monitoring/{PROJECT}/{MODEL}/%2e%2e%2fx", "/static/..%2fapp.py", f"/tables/{PROJECT}/nothing",
    ],
)  # fmt: skip
def test_names_that_are_not_known_are_refused(viewer: httpx.Client, path: str) -> None:
    assert viewer.get(path).status_code == 404


@pytest.fixture
def browser_page(airflow: RunningAirflow) -> Iterator["Page"]:
    """A browser in which nobody is logged in; a fault in a page's script fails the test."""
    if CHROMIUM is None:
        pytest.fail("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1300, "height": 850})
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
        yield page
        browser.close()
    assert not faults


def test_a_browser_logs_in_by_airflows_form_and_sees_the_pages_inside_airflow(
    airflow: RunningAirflow, browser_page: "Page", refreshed: DagRun
) -> None:
    page, login = browser_page, read_credentials("dev").airflow.login("scientist")
    page.goto(f"{airflow.url}/penstock/tables/{PROJECT}/{TABLE}")
    page.fill("input[name=username]", login.username)
    page.fill("input[name=password]", login.password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/penstock/tables/{PROJECT}/{TABLE}")
    assert page.locator("h1").inner_text().startswith(TABLE)

    page.goto(f"{airflow.url}/plugin/penstock")  # Airflow's menu, Penstock: a frame with a sandbox
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name=PROJECT).wait_for()
    frame.get_by_role("link", name=TABLE, exact=True).click()
    frame.get_by_role("link", name="newest report").click()
    frame.frame_locator("iframe").get_by_role("heading", name="Checks").wait_for()
    frame.get_by_role("link", name="Penstock").click()
    frame.get_by_role("link", name="feature refresh").click()
    page.wait_for_url(f"{airflow.url}/dags/{REFRESH}")  # the link left the frame
