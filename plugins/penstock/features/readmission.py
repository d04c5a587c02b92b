"""Rows that were released from quarantine flow into their tables again.

A source gets them appended, in a commit of its own; whatever is computed from them is then refreshed as for any
late row. A feature table is computed in full once: what its transformation yields now is what flows in.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.errors import ServiceError
from penstock.features.source_tables import create_source_table
from penstock.features.staging import Mode, StagedBatch
from penstock.lakehouse.records import latest_record
from penstock.quality.quarantine import Entry, QuarantineOutcome
from penstock.quality.release import mark_readmitted, typed_frame, waiting_rows
from penstock.spec.project import Source
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def readmit_to_source(workspace: Workspace, project_name: str, source_name: str) -> int:
    """Appends the released rows of a source; answers how many. A repeat after a kill appends nothing twice.

    They keep their `available_at`; columns that were declared since they went to quarantine are null in them. Before
    a source's first landing they wait, and so does a row without a value of a key that was declared since. Raises
    ServiceError where another run is at it, or lands meanwhile.
    """
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import append_once, fill_missing, to_arrow

    project = workspace.project(project_name)
    source = project.spec.sources[source_name]
    released = [(entry, _released(entry, source)) for entry in waiting_rows(workspace, project_name, source_name)]
    ready = [(entry, row) for entry, row in released if all(row[key] is not None for key in source.primary_keys)]
    address = f"{project_name}.{source_name}"
    path = workspace.addresses.writable(address)
    if not ready or not DeltaTable.is_deltatable(path):
        return 0
    table = DeltaTable(path)
    last = latest_record(table)
    if last is None:
        return 0
    # The marks are those of before the look at the table: who appends after it has moved one of them.
    mark = table.transaction_version(_consumer(address))
    landed = table.transaction_version(landing_consumer(address))
    create_source_table(project, source, path)
    frame = typed_frame([row for _, row in ready], source.columns)
    frame = _without_those_there(frame, path, source)
    if not frame.empty:
        rows = to_arrow(frame, {name: column.type for name, column in source.columns.items()}, address)
        commit = replace(last, run=workspace.lineage.run)
        if not append_once(
            path, fill_missing(rows, path), commit, _consumer(address), (mark or 0) + 1, mark,
            beside=(landing_consumer(address), landed),
        ):  # fmt: skip
            raise ServiceError(f"{address}: another run lets released rows in; run this again, it goes on from there")
    mark_readmitted(workspace, project_name, [entry for entry, _ in ready])
    return len(frame)


def has_waiting_rows(workspace: Workspace, project: str, table: str) -> bool:
    """Whether rows of a feature table were accepted and not taken up yet."""
    return bool(waiting_rows(workspace, project, table))


def settle(workspace: Workspace, batch: StagedBatch) -> None:
    """Notes which accepted rows of a feature table its full recomputation has taken up, once it is merged."""
    from deltalake import DeltaTable

    if batch.mode is not Mode.FULL:
        return
    waiting = waiting_rows(workspace, batch.project, batch.table)
    if waiting:
        staged_at = DeltaTable(batch.path).history()[-1]["timestamp"]
        seen = [entry for entry in waiting if entry["released_at"].timestamp() * 1000 <= staged_at]
        mark_readmitted(workspace, batch.project, seen)


def settle_all(workspace: Workspace, project: str, table: str) -> None:
    """The same where the full recomputation brought nothing that the table lacks."""
    mark_readmitted(workspace, project, waiting_rows(workspace, project, table))


def landing_consumer(address: str) -> str:
    """The name by which a source's landing marks its commits."""
    return f"land:{address}"


def _consumer(address: str) -> str:
    return f"release:{address}"


def _released(entry: Entry, source: Source) -> dict[str, object]:
    """A row with the columns of today's declaration: null where it was quarantined before they were declared."""
    row = json.loads(entry["correction"] if entry["outcome"] == QuarantineOutcome.CORRECTED else entry["row"])
    return {name: row.get(name) for name in source.columns}


def _without_those_there(frame: "pd.DataFrame", path: str, source: Source) -> "pd.DataFrame":
    """The rows that the table does not hold, identical, from an earlier try."""
    from penstock.lakehouse.small_tables import read
    from penstock.quality.rows import canonical_json, plain

    names, key = list(source.columns), source.primary_keys[0]
    there = read(path, columns=names, filters=[(key, "in", frame[key].tolist())])

    def contents(rows: "pd.DataFrame") -> list[str]:
        typed = rows.astype(frame.dtypes.to_dict())
        return [canonical_json({name: plain(value) for name, value in row.items()}) for row in typed.to_dict("records")]

    held = set(contents(there[names]))
    return frame[[content not in held for content in contents(frame)]]
