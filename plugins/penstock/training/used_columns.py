"""Which columns of which tables a model reads, by what its feature_spec.json (or its declaration) says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.features.point_in_time import PREDICTION_TIME
from penstock.lakehouse.addresses import full_name
from penstock.spec.sql import expression_columns

_FEATURE, _KEY = "feature of", "key of"


@dataclass(frozen=True)
class UsedColumn:
    """A column of a table (`project.table`) that a model version reads; how: `feature of`, `label of`, `key of`."""

    table: str
    column: str
    how: str


def used_columns(spec: Mapping[str, Any], project: str) -> list[UsedColumn]:
    """The columns that a feature_spec.json names: features, the label's, keys of lookups; each once."""
    entity, label, lookups = spec.get("entity") or {}, spec.get("label") or {}, spec.get("lookups", [])
    own, truth = entity.get("table"), label.get("table")
    found = [(own, name, _FEATURE) for name in (*entity.get("features", []), *_on_demand_inputs(spec))]
    found += [(lookup["table"], name, _FEATURE) for lookup in lookups for name in lookup["features"]]
    found += [(truth, name, "label of") for name in expression_columns(label.get("expression") or "1")]
    found += [(own, name, _KEY) for name in entity.get("keys", [])]
    for lookup in lookups:
        found += [(lookup["table"], name, _KEY) for name in lookup["keys"]]
        found += [(own, name, _KEY) for text in lookup["keys"].values() for name in expression_columns(text)]
    first: dict[tuple[str, str], UsedColumn] = {}
    for table, name, how in found:
        if table:
            used = UsedColumn(full_name(table, project), name, how)
            first.setdefault((used.table, used.column), used)
    return list(first.values())


def _on_demand_inputs(spec: Mapping[str, Any]) -> list[str]:
    """The columns of the entity's row that on-demand features are computed from."""
    looked_up = {
        lookup.get("rename", {}).get(name, name) for lookup in spec.get("lookups", []) for name in lookup["features"]
    }
    inputs = [name for item in spec.get("on_demand", {}).values() for name in item["inputs"]]
    return [name for name in inputs if name not in looked_up and name != PREDICTION_TIME]
