"""The way back from quarantine: rows are accepted, corrected by hand or replaced, and flow in exactly once."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

import penstock.features.landing as landing_module
import penstock.features.readmission as readmission
from penstock.cli import app
from penstock.clock import now
from penstock.errors import GateError, NothingToDo, ServiceError, SpecError, TableError
from penstock.features.landing import land_source
from penstock.features.merge import merge_batch, validate_batch
from penstock.features.readmission import readmit_to_source
from penstock.features.refresh import stage_table
from penstock.quality.quarantine import quarantine_rows, read_quarantine
from penstock.quality.release import accept_rows, correct_rows, read_corrections
from penstock.quality.report import latest_verdict
from penstock.quality.rows import BadRow
from penstock.runner import Request, run_pipeline
from penstock.workspace import Workspace
from tests.integration.refreshing import SECOND_ROOT, moment

PROJECT = "shop"
SPEC = """
name: shop
description: Orders.
owner: shop@example.com
sources:
  orders:
    description: Orders as they come.
    primary_keys: [order_id]
    available_at: known_at
    land: sources.orders
    expectations: expectations/orders.yaml
    columns: {order_id: int, shop: string, amount: double, known_at: timestamp}
feature_tables:
  shop_daily:
    description: A shop's day.
    primary_keys: [shop]
    inputs: [orders]
    sql: features/shop_daily.sql
    grain:
      columns: [shop, event_time]
      inputs:
        orders:
          expressions: {shop: shop, event_time: "date_trunc('DAY', known_at) + INTERVAL 1 DAY"}
    columns: {shop: string, event_time: timestamp, amount: double}
    expectations: expectations/shop_daily.yaml
"""
SOURCES = '''
import pandas as pd

ROWS = [(1, "a", 10.0, "2024-01-01"), (2, "a", -5.0, "2024-01-01"), (3, "b", 20.0, "2024-01-01"),
        (4, "b", -1.0, "2024-01-01"), (5, "c", 900.0, "2024-01-01"), (None, "c", 1.0, "2024-01-01"),
        (4, "b", 4.0, "2024-01-03T01:00"), (6, "a", 1.0, "2024-01-03T01:00")]


def orders(after, as_of):
    """Orders 2 and 4 are negative; order 4 is corrected where it comes from on the third day."""
    frame = pd.DataFrame(ROWS, columns=["order_id", "shop", "amount", "known_at"])
    frame["order_id"] = frame["order_id"].astype("Int32")
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True, format="ISO8601")
    return frame[(frame.known_at <= as_of) & ((frame.known_at > after) if after else True)]
'''
SQL = """
SELECT shop, date_trunc('DAY', known_at) + INTERVAL 1 DAY AS event_time, sum(amount) AS amount
FROM orders GROUP BY 1, 2
"""
SUITE = (
    "expectations:\n  - {type: expect_column_values_to_be_between, severity: warning, kwargs: {column: amount, %s}}\n"
)


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Workspace:
    """A shop with one source, one feature table and suites that send some rows of each to quarantine."""
    root = tmp_path / "root"
    folder = root / "include/projects/shop"
    for name, text in {
        "project.yaml": SPEC, "sources.py": SOURCES, "features/shop_daily.sql": SQL,
        "expectations/orders.yaml": SUITE % "min_value: 0", "expectations/shop_daily.yaml": SUITE % "max_value: 500",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copytree(SECOND_ROOT / "include/environments", root / "include/environments")
    return make_workspace(root)


def land(workspace: Workspace, as_of: str):
    return land_source(workspace, PROJECT, "orders", moment(as_of))


def refresh(workspace: Workspace, as_of: str):
    return merge_batch(
        workspace, validate_batch(workspace, stage_table(workspace, PROJECT, "shop_daily", moment(as_of)))
    )


def orders(workspace: Workspace) -> list[tuple[int, float]]:
    frame = DeltaTable(workspace.addresses.readable(f"{PROJECT}.orders")).to_pandas()
    return sorted(zip(frame["order_id"].tolist(), frame["amount"].tolist(), strict=True))


def entry(workspace: Workspace, table: str, **keys: object) -> dict:
    """The row in quarantine with these among its keys."""
    found = [
        row for row in read_quarantine(workspace, PROJECT, table).to_dict("records")
        if keys.items() <= json.loads(row["keys"]).items()
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


def test_accepted_rows_of_a_source_flow_in_once_as_they_are(workspace):
    land(workspace, "2024-01-02")
    assert orders(workspace) == [(1, 10.0), (3, 20.0), (5, 900.0)]
    chosen = entry(workspace, "orders", order_id=2)["id"]
    decided = accept_rows(workspace, PROJECT, "orders", [chosen], "a refund", "ann")
    again = accept_rows(workspace, PROJECT, "orders", [chosen], "a refund, again", "bob")
    assert (decided.released, again.released, again.before) == (1, 0, 1)
    assert land(workspace, "2024-01-02").rows == 1
    assert orders(workspace) == [(1, 10.0), (2, -5.0), (3, 20.0), (5, 900.0)]
    with pytest.raises(NothingToDo):
        land(workspace, "2024-01-02")
    trace = entry(workspace, "orders", order_id=2)
    assert (trace["outcome"], trace["released_by"], trace["release_reason"]) == ("accepted", "ann", "a refund")
    assert trace["readmitted_at"] >= trace["released_at"]
    assert json.loads(trace["reasons"])[0]["value"] == -5.0


def test_a_kill_between_append_and_trace_appends_nothing_twice(workspace, monkeypatch):
    land(workspace, "2024-01-02")
    accept_rows(workspace, PROJECT, "orders", [entry(workspace, "orders", order_id=2)["id"]], "why", "ann")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(readmission, "mark_readmitted", killed)
        with pytest.raises(KeyboardInterrupt):
            land(workspace, "2024-01-02")
    before = orders(workspace)
    with pytest.raises(NothingToDo):
        land(workspace, "2024-01-02")
    assert orders(workspace) == before
    assert entry(workspace, "orders", order_id=2)["readmitted_at"] is not None


def accept(workspace: Workspace, order_id: int, by: str = "ann"):
    """Accepts an order."""
    return accept_rows(workspace, PROJECT, "orders", [entry(workspace, "orders", order_id=order_id)["id"]], "why", by)


def once_before(monkeypatch, place: str, action: Callable[[], object]) -> None:
    """The next call of a function of the library is held up by an action."""
    module, _, name = place.rpartition(".")
    function = getattr(importlib.import_module(module), name)

    def held_up(*words, **named):
        monkeypatch.setattr(place, function)
        action()
        return function(*words, **named)

    monkeypatch.setattr(place, held_up)


def test_two_runs_that_let_the_same_row_in_append_it_once(workspace, monkeypatch):
    land(workspace, "2024-01-02")
    accept(workspace, 2)
    look = readmission._without_those_there

    def slow_look(*words):
        found = look(*words)
        monkeypatch.setattr(readmission, "_without_those_there", look)
        assert readmit_to_source(workspace, PROJECT, "orders") == 1
        return found

    monkeypatch.setattr(readmission, "_without_those_there", slow_look)
    with pytest.raises(ServiceError, match="another run lets released rows in"):
        land(workspace, "2024-01-02")
    assert orders(workspace) == [(1, 10.0), (2, -5.0), (3, 20.0), (5, 900.0)]


def test_a_landing_that_overtakes_a_release_is_not_forgotten(workspace, monkeypatch):
    land(workspace, "2024-01-02")
    accept(workspace, 2)
    landing = lambda: landing_module._land_new(  # noqa: E731
        workspace, PROJECT, "orders", workspace.project(PROJECT).spec.sources["orders"], moment("2024-01-04")
    )
    once_before(monkeypatch, "penstock.features.readmission._without_those_there", landing)
    with pytest.raises(ServiceError, match="land:shop.orders was faster; run this again"):
        land(workspace, "2024-01-03")
    assert land(workspace, "2024-01-05").rows == 1  # the accepted one; what landed meanwhile does not come again
    assert orders(workspace) == [(1, 10.0), (2, -5.0), (3, 20.0), (4, 4.0), (5, 900.0), (6, 1.0)]


def test_a_landing_that_another_one_overtook_claims_no_rows(workspace, monkeypatch):
    once_before(monkeypatch, "penstock.quality.gate.check_batch", lambda: land(workspace, "2024-01-03"))
    with pytest.raises(NothingToDo, match="another run has landed up to 2024-01-02T00:00:00Z, or further"):
        land(workspace, "2024-01-02")
    assert orders(workspace) == [(1, 10.0), (3, 20.0), (5, 900.0)]


@pytest.mark.parametrize("place", ["quality.gate.validate_batch", "quality.release.write_entries"])
def test_what_a_person_decides_while_a_batch_is_judged_stands(workspace, monkeypatch, place):
    land(workspace, "2024-01-02")
    once_before(monkeypatch, f"penstock.{place}", lambda: accept(workspace, 4))
    land(workspace, "2024-01-04")  # brings an order 4 that passes
    decided = entry(workspace, "orders", order_id=4)
    assert (decided["outcome"], decided["released_by"], decided["release_reason"]) == ("accepted", "ann", "why")
    assert land(workspace, "2024-01-04").rows == 1


def test_a_row_that_comes_again_is_open_again_unless_it_was_decided_on_meanwhile(workspace):
    land(workspace, "2024-01-02")
    judged_at = now()
    accept(workspace, 2)
    before = entry(workspace, "orders", order_id=2)
    row = [BadRow({"order_id": 2}, json.loads(before["row"]), json.loads(before["reasons"]))]
    quarantine_rows(workspace, PROJECT, "orders", row, moment("2024-01-03"), found_at=judged_at)
    assert entry(workspace, "orders", order_id=2) == before
    quarantine_rows(workspace, PROJECT, "orders", row, moment("2024-01-02"))  # the same batch, repeated
    assert entry(workspace, "orders", order_id=2) == before
    quarantine_rows(workspace, PROJECT, "orders", row, moment("2024-01-03"))
    assert pd.isna(entry(workspace, "orders", order_id=2)["outcome"])


def test_of_two_people_who_decide_at_once_the_slower_one_is_told(workspace, monkeypatch):
    land(workspace, "2024-01-02")
    once_before(monkeypatch, "penstock.quality.release.write_entries", lambda: accept(workspace, 2, by="bob"))
    with pytest.raises(ServiceError, match=r"were decided on meanwhile, and stay so \(1 other row\(s\) are accepted\)"):
        accept_rows(workspace, PROJECT, "orders", None, "all of them", "ann")
    assert [entry(workspace, "orders", order_id=order)["released_by"] for order in (2, 4)] == ["bob", "ann"]


def declare_anew(workspace: Workspace, make_workspace: Callable[..., Workspace], *changes: tuple[str, str, str]):
    """The shop with texts of its files replaced: each change is a file, the text and what replaces it."""
    folder = workspace.root / "include/projects/shop"
    for name, before, after in changes:
        text = (folder / name).read_text(encoding="utf-8")
        assert before in text
        (folder / name).write_text(text.replace(before, after), encoding="utf-8")
    return make_workspace(workspace.root)


def test_accepted_rows_flow_in_after_their_source_got_columns(workspace, make_workspace):
    land(workspace, "2024-01-02")
    accept_rows(workspace, PROJECT, "orders", [entry(workspace, "orders", order_id=4)["id"]], "a refund", "ann")
    landing = SOURCES.replace('(6, "a", 1.0', '(6, "a", -6.0').replace(
        "    return frame[", '    frame["tip"], frame["paid"] = 0.5, frame.known_at.dt.date\n    return frame['
    )
    (workspace.root / "include/projects/shop/later.py").write_text(landing, encoding="utf-8")
    changed = declare_anew(
        workspace, make_workspace,
        ("project.yaml", "amount: double, known_at", "amount: double, tip: double, paid: date, known_at"),
        ("project.yaml", "land: sources.orders", "land: later.orders"),
    )  # fmt: skip
    assert land(changed, "2024-01-04").rows == 2  # order 4, as accepted and as corrected
    accept_rows(changed, PROJECT, "orders", None, "as well", "ann")  # order 2 without the columns, 6 with them
    assert land(changed, "2024-01-04").rows == 2
    there = DeltaTable(changed.addresses.readable(f"{PROJECT}.orders")).to_pandas()
    found = there[there["order_id"].isin([2, 6])].set_index("order_id")
    assert found["tip"].isna().to_dict() == {2: True, 6: False}
    assert found["paid"].isna().to_dict() == {2: True, 6: False}
    with pytest.raises(NothingToDo):
        land(changed, "2024-01-04")


def test_open_rows_do_not_stop_a_source_whose_keys_were_declared_anew(workspace, make_workspace):
    land(workspace, "2024-01-02")
    accept_rows(workspace, PROJECT, "orders", [entry(workspace, "orders", order_id=2)["id"]], "a refund", "ann")
    changed = declare_anew(
        workspace, make_workspace, ("project.yaml", "primary_keys: [order_id]", "primary_keys: [order_id, shop]")
    )
    assert land(changed, "2024-01-04").rows == 3
    assert (2, -5.0) in orders(changed)
    assert entry(changed, "orders", order_id=4)["outcome"] is None


def test_a_row_that_is_corrected_where_it_comes_from_closes_its_entry(workspace):
    land(workspace, "2024-01-02")
    land(workspace, "2024-01-04")
    assert (4, 4.0) in orders(workspace)
    closed = entry(workspace, "orders", order_id=4)
    assert (closed["outcome"], closed["released_by"]) == ("replaced", "python")
    with pytest.raises(TableError, match="was replaced before"):
        accept_rows(workspace, PROJECT, "orders", [closed["id"]], "why", "ann")
    assert pd.isna(entry(workspace, "orders", order_id=2)["outcome"])


def test_corrected_rows_from_a_file_are_checked_and_flow_in_once(workspace, tmp_path):
    land(workspace, "2024-01-02")
    keyless = next(
        row["id"] for row in read_quarantine(workspace, PROJECT, "orders").to_dict("records") if "null" in row["keys"]
    )
    file = tmp_path / "rows.csv"
    header = "quarantine_id,order_id,shop,amount,known_at\n"
    file.write_text(header + ",2,a,-6,2024-01-01T00:00:00Z\n", encoding="utf-8")
    with pytest.raises(GateError, match=r"corrected rows do not pass either: .*-6"):
        correct_rows(workspace, PROJECT, "orders", read_corrections(workspace, PROJECT, "orders", file), "typo", "ann")
    file.write_text(header + ",77,a,6,2024-01-01T00:00:00Z\n", encoding="utf-8")
    with pytest.raises(TableError, match="no row in quarantine with order_id=77"):
        correct_rows(workspace, PROJECT, "orders", read_corrections(workspace, PROJECT, "orders", file), "typo", "ann")
    file.write_text(header + f",2,a,5.5,2024-01-01T00:00:00Z\n{keyless},7,c,1,2024-01-01T00:00:00Z\n", encoding="utf-8")
    for released in (2, 0):
        frame = read_corrections(workspace, PROJECT, "orders", file)
        assert correct_rows(workspace, PROJECT, "orders", frame, "typo", "ann").released == released
    land(workspace, "2024-01-02")
    assert orders(workspace) == [(1, 10.0), (2, 5.5), (3, 20.0), (5, 900.0), (7, 1.0)]
    trace = entry(workspace, "orders", order_id=2)
    assert (trace["outcome"], json.loads(trace["correction"])["amount"]) == ("corrected", 5.5)


def test_a_row_of_a_feature_table_flows_in_as_it_is_computed_now(workspace):
    land(workspace, "2024-01-02")
    refresh(workspace, "2024-01-02")
    table = lambda: DeltaTable(workspace.addresses.readable(f"{PROJECT}.shop_daily")).to_pandas()  # noqa: E731
    assert sorted(table()["shop"]) == ["a", "b"]
    with pytest.raises(TableError, match="rows of a feature table are computed"):
        correct_rows(workspace, PROJECT, "shop_daily", pd.DataFrame(), "why", "ann")
    accept_rows(workspace, PROJECT, "shop_daily", None, "a wholesaler", "ann")
    merged = refresh(workspace, "2024-01-02")
    assert merged.why == "rows were released from quarantine"
    assert dict(zip(table()["shop"], table()["amount"], strict=True))["c"] == 900.0
    with pytest.raises(NothingToDo):
        refresh(workspace, "2024-01-02")
    assert entry(workspace, "shop_daily", shop="c")["readmitted_at"] is not None


def test_a_released_row_of_a_source_reaches_the_features(workspace):
    land(workspace, "2024-01-02")
    refresh(workspace, "2024-01-02")
    accept_rows(workspace, PROJECT, "orders", [entry(workspace, "orders", order_id=2)["id"]], "a refund", "ann")
    run_pipeline(workspace, "feature_refresh", Request(PROJECT, "", moment("2024-01-03")), lambda *_: None)
    table = DeltaTable(workspace.addresses.readable(f"{PROJECT}.shop_daily")).to_pandas().set_index("shop")
    assert table.loc["a", "amount"] == 5.0
    assert table.loc["a", "_known_at"] == pd.Timestamp("2024-01-03", tz="UTC")


def test_a_large_batch_is_judged_by_spark_with_the_same_end(workspace, monkeypatch):
    monkeypatch.setattr("penstock.quality.validation.SPARK_FROM_ROWS", 2)
    land(workspace, "2024-01-02")
    assert refresh(workspace, "2024-01-02").quarantined == 1
    assert latest_verdict(workspace, PROJECT, "shop_daily")["engine"] == "spark"
    shops = DeltaTable(workspace.addresses.readable(f"{PROJECT}.shop_daily")).to_pandas()["shop"]
    assert sorted(shops) == ["a", "b"]
    assert json.loads(entry(workspace, "shop_daily", shop="c")["reasons"])[0]["value"] == 900.0


def test_what_cannot_be_accepted_is_said(workspace):
    land(workspace, "2024-01-02")
    with pytest.raises(TableError, match="no row abc in quarantine"):
        accept_rows(workspace, PROJECT, "orders", ["abc"], "why", "ann")
    with pytest.raises(TableError, match=r"shop\.nothing is neither"):
        accept_rows(workspace, PROJECT, "nothing", None, "why", "ann")
    decided = accept_rows(workspace, PROJECT, "orders", None, "why", "ann")
    assert (decided.released, decided.without_key) == (2, 1)
    keyless = next(row for row in read_quarantine(workspace, PROJECT).to_dict("records") if "null" in row["keys"])
    with pytest.raises(TableError, match="has a null key"):
        accept_rows(workspace, PROJECT, "orders", [keyless["id"]], "why", "ann")


@pytest.fixture
def command(workspace, monkeypatch) -> Callable[..., str]:
    """Runs `penstock quarantine …` in the workspace; answers what it prints."""
    monkeypatch.setattr(Workspace, "open", classmethod(lambda *_: workspace))

    def run(*words: str, fails: bool = False) -> str:
        done = CliRunner().invoke(app, ["quarantine", *words])
        assert (done.exit_code != 0) == fails, done.output
        return done.output

    return run


def test_the_commands_list_accept_and_correct(workspace, command, tmp_path):
    land(workspace, "2024-01-02")
    listed = json.loads(command("list", PROJECT, "--json"))
    assert [row["outcome"] for row in listed] == [None] * 3
    negative = next(row for row in listed if row["keys"].get("order_id") == 2)
    assert (negative["row"]["amount"], negative["reasons"][0]["value"]) == (-5.0, -5.0)
    assert f"{negative['id']}  orders  order_id=2" in command("list", PROJECT, "--table", "orders")
    command("accept", PROJECT, "orders", "--reason", "why", fails=True)
    said = command("accept", PROJECT, "orders", "--rows", negative["id"], "--reason", "a refund", "--by", "ann")
    assert said.startswith("shop.orders: 1 rows accepted, 0 were before.")
    file = tmp_path / "rows.csv"
    file.write_text("order_id,shop,amount,known_at\n4,b,4.5,2024-01-01T00:00:00Z\n", encoding="utf-8")
    command("correct", PROJECT, "orders", "--file", str(file), "--reason", "typo")
    assert len(json.loads(command("list", PROJECT, "--json"))) == 1
    assert len(json.loads(command("list", PROJECT, "--json", "--closed"))) == 3
    land(workspace, "2024-01-02")
    assert orders(workspace) == [(1, 10.0), (2, -5.0), (3, 20.0), (4, 4.5), (5, 900.0)]


def test_the_operator_releases_by_parameters_and_starts_a_refresh(workspace):
    from airflow.sdk import Asset

    from penstock.operators.quarantine import ReleaseRowsOperator

    land(workspace, "2024-01-02")
    asset = Asset("shop.raw_data")
    events = {asset: SimpleNamespace(extra={})}
    context = {
        "params": {"table": "orders", "action": "accept", "rows": None, "file": None, "reason": "a refund"},
        "dag_run": SimpleNamespace(dag_id="shop.quarantine_release", run_id="manual", triggering_user_name="ann"),
        "ti": SimpleNamespace(xcom_push=lambda **_: None), "outlet_events": events,
    }  # fmt: skip
    operator = ReleaseRowsOperator(task_id="release", project=PROJECT, outlets=[asset])
    released = operator.run(workspace, moment("2024-01-02"), context)
    assert (released.released, released.without_key) == (2, 1)
    assert events[asset].extra == {"as_of": "2024-01-02T00:00:00Z"}
    assert entry(workspace, "orders", order_id=2)["released_by"] == "ann"
    context["params"] = {**context["params"], "action": "correct"}
    with pytest.raises(SpecError, match="Give the parameter `file`"):
        operator.run(workspace, moment("2024-01-02"), context)
