"""Whether what a version needs to be asked is there: declared, stored, fresh, and made as it was in training."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import PenstockError
from penstock.features.definition import definition_hash
from penstock.features.point_in_time import PREDICTION_TIME
from penstock.gates import some
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import CommitRecord
from penstock.registry.compliance.registered import check, failed, passed, warned
from penstock.spec.common import duration_text, parse_duration
from penstock.spec.compliance import Severity
from penstock.spec.project import Column, FeatureTable
from penstock.spec.sql import expression_columns
from penstock.training.feature_columns import ENTITY
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.gates import Check
    from penstock.registry.compliance.subject import Subject


@check("features_declared")
def check_features_declared(subject: "Subject") -> "Check":
    """Each feature, and the entity's keys and prediction time, are columns of today's declarations: a model that needs
    a feature which the deployed code does not have (yet) is refused. A model that a person fitted on rows of their own
    is asked about the declared entity: what it takes from the row must be columns of that table. Deploy that code
    first, or train without it.
    """
    missing, changed = [], []
    for address, column, kind in needed_columns(subject.project.name, subject.feature_spec):
        declared = _declared_column(subject.workspace, address, column)
        if declared is None:
            missing.append(f"{address}.{column}")
        elif kind is not None and str(declared.type) != kind:
            changed.append(f"{address}.{column} (was {kind}, is {declared.type})")
    if missing:
        return failed(
            f"today's project does not declare {some(missing)}, which it needs: deploy the code that does, or train "
            "it again",
            missing=missing,
        )  # fmt: skip
    if changed:
        return warned(f"declared with another type than in training: {some(changed)}", changed=changed)
    return passed("today's project declares all that it needs")


@check("features_in_lakehouse")
def check_features_in_lakehouse(subject: "Subject") -> "Check":
    """The tables and columns of its features exist in the lakehouse. Refresh the features, or train without them."""
    from deltalake import DeltaTable

    found: dict[Address, set[str] | None] = {}
    missing = []
    for address, column, _ in needed_columns(subject.project.name, subject.feature_spec):
        if address not in found:
            path = subject.workspace.addresses.find(address)
            found[address] = {field.name for field in DeltaTable(path).schema().fields} if path else None
        columns = found[address]
        if columns is None or column not in columns:
            missing.append(f"{address}.{column}" if columns is not None else f"{address} (no such table)")
    missing = list(dict.fromkeys(missing))
    if missing:
        return failed(
            f"the lakehouse does not have {some(missing)}: refresh the features, or train without them",
            missing=missing,
        )  # fmt: skip
    tables = ", ".join(sorted(map(str, found)))
    return passed(f"all there, in {tables}")


@check("features_fresh", Severity.WARN)
def check_features_fresh(subject: "Subject") -> "Check":
    """The newest row of each looked-up table is, at as_of, not older than `promotion.compliance.max_feature_age`, or
    else than the lookup's own `max_age`; lookups without either are not judged. Run feature_refresh.
    """
    ages, stale = {}, []
    for lookup in subject.feature_spec["lookups"]:
        limit = subject.asked.max_feature_age or (lookup.get("max_age") and parse_duration(lookup["max_age"]))
        address = Address.parse(lookup["table"], subject.project.name)
        if not limit:
            continue
        newest = _newest(subject.workspace, address, subject.as_of)
        age = subject.as_of - newest if newest is not None else None
        ages[str(address)] = {"newest": to_text(newest) if newest else None, "limit": duration_text(limit)}
        if age is None:
            stale.append(f"{address} has no row")
        elif age > limit:
            stale.append(f"{address} ends {_rounded(age)} before as_of (at most {duration_text(limit)})")
    if stale:
        return failed(f"{some(stale)}: its features would be missing; run feature_refresh first", tables=ages)
    return passed(f"the newest rows of {some(sorted(ages)) or 'no table with a limit'} are fresh enough", tables=ages)


@check("feature_definitions")
def check_feature_definitions(subject: "Subject") -> "Check":
    """Each feature table is declared today as it was when the rows that the model learned from were made: the digest
    of transformation, keys, grain and columns in the table's commits. New columns do not count. After a change, train
    again on refreshed features, or take the change back.
    """
    project, spec = subject.project.name, subject.feature_spec
    inputs = _input_versions(subject, spec)
    changed: list[str] = []
    unknown: list[str] = []
    same: list[str] = []
    for table in dict.fromkeys(lookup["table"] for lookup in spec["lookups"]):
        address = Address.parse(table, project)
        answer = _same_definition(subject.workspace, address, inputs.get(f"{address.project}.{address.table}"))
        {True: same, False: changed, None: unknown}[answer].append(str(address))
    evidence = {"same": same, "changed": changed, "unknown": unknown, "trained_from": inputs}
    if changed:
        return failed(
            f"{some(changed)} is computed in another way today than what it learned from: train it again on "
            "refreshed features, or take the change back",
            **evidence,
        )  # fmt: skip
    if unknown:
        return warned(f"how {some(unknown)} was computed when it was trained is not recorded", **evidence)
    return passed("its feature tables are computed as in training", **evidence)


def needed_columns(project: str, spec: dict[str, Any]) -> Iterator[tuple[Address, str, str | None]]:
    """(table, column, type) of keys, prediction time, inputs of on-demand features and of lookups' keys (type None),
    and of each stored feature.
    """
    entity, computed = Address.parse(spec["entity"]["table"], project), spec.get("on_demand", {})
    others = {feature["name"] for feature in spec["features"]} | {PREDICTION_TIME}
    inputs = [name for item in computed.values() for name in item["inputs"]]
    inputs += [name for one in spec["lookups"] for text in one["keys"].values() for name in expression_columns(text)]
    inputs = [name for name in inputs if name not in others]
    for column in dict.fromkeys([*spec["entity"]["keys"], spec["entity"]["prediction_time"], *inputs]):
        yield entity, column, None
    for feature in spec["features"]:
        if feature["name"] in computed:
            continue
        if feature["source"] == ENTITY:
            yield entity, feature["name"], feature["type"]
        else:
            table, _, column = feature["source"].rpartition(".")
            yield Address.parse(table, project), column, feature["type"]


def _declared_column(workspace: Workspace, address: Address, column: str) -> Column | None:
    try:
        table = workspace.declared_table(address)
    except PenstockError:
        return None
    return table.columns.get(column) if table else None


def _newest(workspace: Workspace, address: Address, as_of: datetime) -> datetime | None:
    """The greatest event time up to as_of; None where there is no such row."""
    import pyarrow.compute as compute

    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.find(address)
    column = _event_time(workspace, address, path)
    if path is None or column is None:
        return None
    # a day's rows say it nearly always; all of them only where they do not
    for start in (as_of - timedelta(days=1), None):
        filters = [(column, "<=", as_of), *([(column, ">", start)] if start else [])]
        found = compute.max(read_arrow(path, columns=[column], filters=filters)[column]).as_py()
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


def _event_time(workspace: Workspace, address: Address, path: str | None) -> str | None:
    from deltalake import DeltaTable

    try:
        declared = workspace.declared_table(address)
    except PenstockError:
        declared = None
    if isinstance(declared, FeatureTable):
        return declared.event_time
    return DeltaTable(path).metadata().configuration.get("penstock.event_time") if path else None


def _input_versions(subject: "Subject", spec: dict[str, Any]) -> dict[str, int]:
    """By `project.table`, the versions that the training set read."""
    try:
        found = json.loads(subject.version.tags.get("penstock.inputs") or "{}") or spec.get("inputs") or {}
    except ValueError:
        found = spec.get("inputs") or {}
    named = {}
    for name, version in found.items():
        address = Address.parse(name, subject.project.name)
        named[f"{address.project}.{address.table}"] = int(version)
    return named


def _same_definition(workspace: Workspace, address: Address, version: int | None) -> bool | None:
    """Whether a feature table is declared as it was at a version; None where that is not known."""
    path = workspace.addresses.find(address)
    try:
        project = workspace.project(address.project)
    except PenstockError:
        return None
    spec = project.spec.feature_tables.get(address.table)
    recorded = _definition_at(path, version) if path and version is not None else None
    if spec is None or recorded is None or path is None:
        return None
    definition, columns = recorded
    added = [name for name in spec.value_columns if name not in columns]
    try:
        return definition in {definition_hash(project, spec), definition_hash(project, spec, added)}
    except (PenstockError, OSError):
        return None  # `penstock validate` says what is wrong with the declaration


def _definition_at(path: str, version: int) -> tuple[str, set[str]] | None:
    """The newest definition recorded up to a version, and the columns of that version."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(path, version=version)
        history = table.history()
    except (DeltaError, OSError):
        return None
    for commit in history:
        found = CommitRecord.from_json(commit.get("userMetadata"))
        if found is not None and found.definition is not None:
            return found.definition, {field.name for field in table.schema().fields}
    return None


def _rounded(age: timedelta) -> str:
    return f"{age.days} d" if age.days else f"{age.total_seconds() / 3600:.1f} h"
