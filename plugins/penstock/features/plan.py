"""What a refresh must compute: the touched groups, or the whole table and why."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import DefinitionChanged, GateError, NothingToDo
from penstock.features.definition import create_table, definition_hash, definition_sources, what_changed
from penstock.features.inputs import InputTable, open_input
from penstock.features.known import KNOWN_AT
from penstock.features.readmission import has_waiting_rows
from penstock.features.staging import Mode, app_id
from penstock.lakehouse.records import CommitRecord, latest_commit
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Plan:
    """How a table is refreshed: from which inputs, against which version, and how much of it."""

    mode: Mode
    why: str
    inputs: dict[str, InputTable]
    last: CommitRecord | None
    definition: str
    path: str
    table: "DeltaTable"
    mark: int | None
    is_empty: bool = False
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The feature table's version, which nobody moves on."""
        return self.table.version()

    def in_full(self, why: str) -> "Plan":
        """The same with the whole table computed."""
        return replace(self, mode=Mode.FULL, why=why)


def make_plan(
    workspace: Workspace, project: LoadedProject, name: str, spec: FeatureTable, as_of: datetime
) -> Plan:  # fmt: skip
    """Compares the table's record with its declaration and its inputs.

    Raises NothingToDo where no input changed or as_of was reached before, DefinitionChanged where the definition did,
    ShapeChanged where keys or types did.
    """
    path = workspace.addresses.writable(f"{project.name}.{name}")
    table = create_table(project, name, spec, path)
    inputs = {item: open_input(workspace, project.name, item) for item in spec.inputs}
    commit = latest_commit(table)
    plan = Plan(
        Mode.FULL, "the table is new", inputs, commit[1] if commit else None, definition_hash(project, spec), path,
        table, table.transaction_version(app_id(project.name, name)),
        sources=definition_sources(project, spec),
    )  # fmt: skip
    if commit is None:
        return replace(plan, is_empty=table.count() == 0)
    last = commit[1]
    if as_of < last.as_of_moment:
        raise NothingToDo(
            f"{project.name}.{name} has already reached {last.as_of}: as_of {to_text(as_of)} writes nothing"
        )
    stored = _columns(table, commit[0])
    try:
        changed_definition = what_changed(project, name, spec, last, stored)
    except GateError as error:
        removed = tuple(column for column in stored if column not in spec.columns and column != KNOWN_AT)
        raise DefinitionChanged(str(error), f"{project.name}.{name}", removed) from error
    if changed_definition:
        return plan.in_full(changed_definition)
    if has_waiting_rows(workspace, project.name, name):
        return plan.in_full("rows were released from quarantine")
    return _compare_inputs(plan, last, project.name, name, spec, as_of)


def _columns(table: "DeltaTable", version: int) -> list[str]:
    """The columns that a table had at a version."""
    from deltalake import DeltaTable

    then = table if table.version() == version else DeltaTable(table.table_uri, version=version)
    return [field.name for field in then.schema().fields]


def _compare_inputs(
    plan: Plan, last: CommitRecord, project: str, name: str, spec: FeatureTable, as_of: datetime
) -> Plan:
    inputs = plan.inputs
    changed = [item for item, table in inputs.items() if _differs(table, last)]
    if not changed and as_of == last.as_of_moment:
        raise NothingToDo(f"{project}.{name}: no input changed since {last.as_of}")
    if spec.grain is None:
        return plan.in_full("it declares no grain")
    remade = [item for item in changed if _was_remade(inputs[item], last)]
    if remade:
        return plan.in_full(f"{', '.join(remade)} was made anew or put back to an older version")
    moved = [
        item for item in inputs
        if item not in spec.grain.inputs and (item in changed or inputs[item].has_rows(last.as_of_moment, as_of))
    ]  # fmt: skip
    if moved:
        return plan.in_full(f"{', '.join(moved)} changed and has no grain")
    unfed = [item for item in changed if not inputs[item].has_change_feed()]
    if unfed:
        return plan.in_full(f"{', '.join(unfed)} has no change data feed")
    return replace(plan, mode=Mode.INCREMENTAL, why=f"changed: {', '.join(changed) or 'the clock'}")


def _differs(table: InputTable, last: CommitRecord) -> bool:
    return last.inputs.get(table.name) != table.version or _has_other_id(table, last)


def _was_remade(table: InputTable, last: CommitRecord) -> bool:
    seen = last.inputs.get(table.name)
    return _has_other_id(table, last) or (seen is not None and seen > table.version)


def _has_other_id(table: InputTable, last: CommitRecord) -> bool:
    return last.input_ids.get(table.name, table.id) != table.id
