"""Lineage without services: columns through SQL, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.lineage.graph import Edge, Graph, Node, NodeKind
from penstock.spec.sql import expression_columns
from penstock.spec.sql_columns import QueryColumns, query_columns

PENSTOCK = str(Path(sys.executable).parent / "penstock")
INPUTS = {
    "trips": {"car": "string", "km": "double", "state": "string", "day": "date"},
    "fleet.cars": {"car": "string", "seats": "int"},
}


def columns(sql: str, *outputs: str) -> QueryColumns:
    found = query_columns(sql, INPUTS, outputs)
    assert found is not None
    return found


def test_a_value_leads_through_ctes_joins_and_windows_to_its_columns() -> None:
    sql = """
        WITH long AS (SELECT car, km * 2 AS way, day FROM trips WHERE state = 'done')
        SELECT long.car, sum(long.way) OVER (PARTITION BY long.car) / c.seats AS share, max(day) AS newest
        FROM long JOIN fleet.cars c ON c.car = long.car GROUP BY 1, long.way, c.seats
    """
    found = columns(sql, "car", "share")
    assert found.values["car"] == (("trips", "car"),)
    assert {("fleet.cars", "seats"), ("trips", "km")} <= set(found.values["share"])
    assert ("trips", "state") in found.shaping
    assert ("fleet.cars", "car") in found.shaping


def test_both_sides_of_a_union_count() -> None:
    found = columns("SELECT car AS who FROM trips UNION ALL SELECT car FROM fleet.cars", "who")
    assert found.values["who"] == (("fleet.cars", "car"), ("trips", "car"))


def test_a_count_of_rows_has_no_column() -> None:
    assert columns("SELECT count(*) AS n FROM trips", "n").values["n"] == ()


@pytest.mark.parametrize("sql", ["SELECT nothing FROM trips", "SELECT car FROM strangers", "SELEC"])
def test_what_cannot_be_resolved_is_left_to_the_table(sql: str) -> None:
    assert query_columns(sql, INPUTS, ["nothing"]) is None


def test_an_expression_names_its_columns_once() -> None:
    assert expression_columns("concat(a, '-', b, a)") == ["a", "b"]
    assert expression_columns("(((") == []


def test_a_graph_that_goes_round_ends() -> None:
    nodes = tuple(Node(name, NodeKind.TABLE) for name in ("a.x", "a.y"))
    graph = Graph(nodes, (Edge("a.x", "a.y", "made from"), Edge("a.y", "a.x", "made from")), "a.x")
    assert {node.id for node in graph.upstream().nodes} == {"a.x", "a.y"}
    assert graph.to_text().count("a.y") == 2


def lineage(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, in an environment without services and without tables."""
    return subprocess.run(
        [PENSTOCK, "lineage", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PENSTOCK_HOME": str(tmp_path), "PENSTOCK_ENV": "dev", "COLUMNS": "200"},
    )  # fmt: skip


def test_the_command_answers_without_services_and_says_what_is_missing(tmp_path: Path) -> None:
    answer = lineage(tmp_path, "flight_delays.carrier_daily.share_late")
    assert answer.returncode == 0, answer.stderr
    assert "flight_delays.flight_outcomes.arr_delay (column)  <- features/carrier_daily.sql" in answer.stdout
    assert "flight_delays.late_arrival (declared model" in answer.stdout
    assert "registered versions are not shown" in answer.stdout


def test_the_command_shows_one_direction_as_json_or_mermaid(tmp_path: Path) -> None:
    answer = lineage(tmp_path, "flight_delays.carrier_daily", "--upstream", "--json")
    assert {node["id"] for node in json.loads(answer.stdout)["nodes"]} == {
        "flight_delays.carrier_daily", "flight_delays.flight_outcomes"
    }  # fmt: skip
    drawn = lineage(tmp_path, "flight_delays.carrier_daily", "--downstream", "--mermaid")
    assert drawn.stdout.startswith("flowchart LR")
    assert "flight_outcomes" not in drawn.stdout


def test_the_command_names_the_closest_table(tmp_path: Path) -> None:
    answer = lineage(tmp_path, "flight_delays.carrier_dayly")
    assert answer.returncode == 1
    assert "write flight_delays.carrier_daily" in answer.stderr
