"""What one step of a pipeline read and wrote, as far as its result and the tables' commit records say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.errors import PenstockError
from penstock.features.column_sources import column_sources
from penstock.features.table_info import ColumnInfo, TableInfo, describe_table
from penstock.lakehouse.addresses import Address, full_name
from penstock.lakehouse.records import latest_record
from penstock.workspace import Workspace


@dataclass(frozen=True)
class Touched:
    """A table or registered model (`is_model`) at a version. sources: by column, the columns that it comes from.

    name: `project.table`, or `project.model`. path: where a table lies.
    """

    name: str
    version: int
    path: str = ""
    description: str = ""
    columns: tuple[ColumnInfo, ...] = ()
    sources: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    is_model: bool = False


@dataclass(frozen=True)
class StepLineage:
    """What a step read and wrote."""

    inputs: tuple[Touched, ...] = ()
    outputs: tuple[Touched, ...] = ()


def step_lineage(workspace: Workspace, project: str, result: Any) -> StepLineage:
    """The lineage of a step by its result: the references that it left as XCom. Empty where these name no table."""
    if not isinstance(result, Mapping):
        return StepLineage()
    inputs = {full_name(name, project): int(number) for name, number in (result.get("inputs") or {}).items()}
    training_set = result.get("training_set")
    if isinstance(training_set, Mapping):
        inputs[str(training_set["table"])] = int(training_set["version"])
    written = _written(workspace, project, result)
    if written is not None and not written.is_model:
        record = latest_record(written.path)
        inputs |= {full_name(name, project): number for name, number in (record.inputs if record else {}).items()}
    found = [_touched(workspace, project, name, number) for name, number in inputs.items()]
    return StepLineage(tuple(found), (written,) if written else ())


def _written(workspace: Workspace, project: str, result: Mapping[str, Any]) -> Touched | None:
    version = result.get("version")
    if not isinstance(version, int):
        return None
    if {"name", "run_id"} <= result.keys():
        return Touched(str(result["name"]), version, is_model=True)
    table = str(result.get("table", ""))
    if "." not in table:  # a batch that is staged for a table is not yet the table
        return None
    return _touched(workspace, project, table, version)


def _touched(workspace: Workspace, project: str, name: str, version: int) -> Touched:
    address = Address.parse(name, project)
    if address.table in workspace.project(address.project).spec.models and workspace.addresses.find(address) is None:
        return Touched(name, version, is_model=True)
    try:
        info: TableInfo = describe_table(workspace, address)
    except PenstockError:
        return Touched(name, version)
    return Touched(
        info.name, version, info.path or "", info.description, info.columns, column_sources(workspace, address)
    )
