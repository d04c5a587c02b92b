"""Everything declared by which a version is judged, as one fingerprint: what was decided upon is held to it.

Where a comparison reads another part of the declaration, it belongs here, too.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from penstock.errors import PenstockError, SpecError, TableError
from penstock.features.definition import definition_hash
from penstock.lakehouse.addresses import Address
from penstock.spec.model import Model
from penstock.spec.modules import module_text
from penstock.spec.table import Source
from penstock.workspace import Workspace

DECIDING: dict[str, bool | set[str]] = {
    "entity": True,
    "label": True,
    "lookups": True,
    "on_demand": True,
    "promotion": True,
    "training": {"task", "metric", "metrics", "lower_is_better", "as_known"},
    "evaluation": {"slices"},
}
"""Of a model's declaration: whole parts, or some fields of one."""


def fingerprint(workspace: Workspace, project: str, model: str) -> str:
    """A hash of what a model's versions are judged by.

    That is: entity, label, features, metrics, slices and the promotion's rule, as declared; the column that says when a
    row of their tables may be used; how the features that they look up are computed (SQL, or a function's modules); and
    the modules of the functions that all these name (a module's whole text counts).
    """
    loaded = workspace.project(project)
    spec = loaded.model(model)
    return digest({
        "declared": spec.model_dump(mode="json", include=DECIDING),
        "available_at": {name: _available_at(workspace, project, name) for name in sorted(_tables(spec))},
        "definitions": dict(_definitions(workspace, project, spec)),
        "code": {name: module_text(loaded, name) for name in sorted(_functions(spec))},
    })  # fmt: skip


def digest(value: Any) -> str:
    """A short hash of JSON values."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tables(spec: Model) -> set[str]:
    return {spec.entity.table, spec.label.table, *(lookup.table for lookup in spec.lookups)}


def _available_at(workspace: Workspace, project: str, name: str) -> str | None:
    """The column by which as_of cuts a table; None where no project.yaml declares it."""
    try:
        declared = workspace.declared_table(Address.parse(name, project))
    except (SpecError, TableError):
        return None
    if declared is None:
        return None
    return declared.available_at if isinstance(declared, Source) else declared.event_time


def _definitions(workspace: Workspace, project: str, spec: Model) -> Iterator[tuple[str, str | None]]:
    """The definition of each looked-up table, but for columns that are not looked up; None where none can be read."""
    for name in sorted({lookup.table for lookup in spec.lookups}):
        wanted = {feature for lookup in spec.lookups if lookup.table == name for feature in lookup.features}
        try:
            address = Address.parse(name, project)
            declaring = workspace.project(address.project)
            table = declaring.spec.feature_tables[address.table]
            others = [column for column in table.value_columns if column not in wanted]
            yield name, definition_hash(declaring, table, without=others)
        except (PenstockError, KeyError, OSError):
            yield name, None


def _functions(spec: Model) -> Iterator[str]:
    promotion = spec.promotion
    yield from spec.training.metrics.values()
    yield from (feature.function for feature in spec.on_demand.values())
    yield from (name for name in (promotion.heuristic, *promotion.methods) if name and "." in name)
    yield from promotion.compliance.own.values()
