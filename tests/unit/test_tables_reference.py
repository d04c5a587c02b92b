"""docs/reference/tables.md and the code name the same tables, keys, columns and types."""

import re
from pathlib import Path

import pytest

from penstock.lakehouse.system_tables import SYSTEM_TABLES
from penstock.monitoring.publication import _KEYS

SECTIONS = {
    title.strip("`"): text
    for title, text in re.findall(
        r"^## (\S+)\n(.*?)(?=^## |\Z)",
        (Path(__file__).parents[2] / "docs/reference/tables.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
}


def rows_of(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_page_has_every_table_of_a_project_and_those_of_a_model():
    names = [str(table) for table in SYSTEM_TABLES]
    assert list(SECTIONS) == [*names, "<model>_training_set", "<model>_predictions"]


@pytest.mark.parametrize("table", list(SYSTEM_TABLES))
def test_columns_types_keys_and_description_are_those_of_the_code(table):
    definition, section = SYSTEM_TABLES[table], SECTIONS[str(table)]
    documented = [(cells[0].strip("`"), cells[1]) for cells in rows_of(section)]
    assert documented == [(name, str(kind)) for name, kind in definition.columns.items()]
    keys = re.search(r"^Keys: (.*?)\. Written", section, re.MULTILINE)
    assert keys is not None
    assert tuple(key.strip("`") for key in keys[1].split(", ")) == definition.keys
    assert section.strip().startswith(definition.description)


@pytest.mark.parametrize("table", SECTIONS)
def test_every_column_has_a_meaning(table):
    assert all(len(cells) == 4 and cells[3] for cells in rows_of(SECTIONS[table]))


def test_the_fixed_columns_of_a_models_tables_are_those_that_the_code_uses():
    from penstock.features.point_in_time import PREDICTION_TIME
    from penstock.features.training_set import LABEL, LABEL_KNOWN_AT
    from penstock.inference.batch import PREDICTION

    training = [cells[0].strip("`") for cells in rows_of(SECTIONS["<model>_training_set"]) if "`" in cells[0][:1]]
    assert training == [PREDICTION_TIME, LABEL, LABEL_KNOWN_AT]
    predictions = [cells[0].strip("`") for cells in rows_of(SECTIONS["<model>_predictions"]) if "`" in cells[0][:1]]
    assert predictions == [PREDICTION_TIME, PREDICTION, "model_version", "as_of", "scored_at", "run"]


@pytest.mark.parametrize("table", ["alerts", "monitoring_metrics"])
def test_stale_rows_are_found_by_the_keys_of_their_tables(table):
    assert SYSTEM_TABLES[table].keys == ("model", *_KEYS)
