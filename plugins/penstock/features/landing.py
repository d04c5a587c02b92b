"""Landing: a project's own function brings what became known, quality gates check it, Delta keeps it.

A raw table is written by the deltalake library, in one commit with the mark of its consumer, so that a
repeat after a kill appends nothing twice.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import to_micros, to_text
from penstock.errors import NothingToDo, SpecError, TableError
from penstock.features.readmission import landing_consumer, readmit_to_source
from penstock.features.source_tables import create_source_table
from penstock.features.watermarks import note_watermark
from penstock.lakehouse.records import latest_record, record
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Source
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Landed:
    """What landing a source left behind."""

    table: str
    version: int
    rows: int
    quarantined: int
    as_of: str


def land_source(workspace: Workspace, project_name: str, source_name: str, as_of: datetime) -> Landed:
    """Lands the rows of a source that became known since the last landing, up to as_of, and those released since.

    Raises NothingToDo where there are none or as_of was reached before, TableError where the function's
    rows break the declaration, GateError where a critical expectation fails.
    """
    from penstock.lakehouse.small_tables import version

    source = _source(workspace.project(project_name), source_name)
    released = readmit_to_source(workspace, project_name, source_name)
    try:
        landed = _land_new(workspace, project_name, source_name, source, as_of)
    except NothingToDo:
        if not released:
            raise
        address = f"{project_name}.{source_name}"
        return Landed(address, version(workspace.addresses.writable(address)), released, 0, to_text(as_of))
    return replace(landed, rows=landed.rows + released)


def _land_new(
    workspace: Workspace, project_name: str, source_name: str, source: Source, as_of: datetime
) -> Landed:  # fmt: skip
    project = workspace.project(project_name)
    address = f"{project_name}.{source_name}"
    path = workspace.addresses.writable(address)
    after = _reached(path, address, as_of)
    frame = _call(project, source, address, after, as_of)
    if frame.empty:
        if after is not None:
            note_watermark(workspace, address, as_of)
        raise NothingToDo(f"{address}: nothing became known between {_text(after)} and {to_text(as_of)}")
    return _write(workspace, project, source, source_name, frame, after, as_of, path)


def _source(project: LoadedProject, name: str) -> Source:
    source = project.spec.sources.get(name)
    if source is None or source.land is None:
        raise SpecError(f"{project.folder / 'project.yaml'}: no source {name!r} with a `land` function")
    return source


def _reached(path: str, address: str, as_of: datetime) -> datetime | None:
    last = latest_record(path)
    if last is None:
        return None
    if as_of <= last.as_of_moment:
        raise NothingToDo(f"{address} has already reached {last.as_of}: nothing to land as of {to_text(as_of)}")
    return last.as_of_moment


def _call(
    project: LoadedProject, source: Source, address: str, after: datetime | None, as_of: datetime
) -> "pd.DataFrame":
    import pandas as pd

    frame = load_function(project, str(source.land))(after, as_of)
    if not isinstance(frame, pd.DataFrame):
        raise TableError(f"{address}: {source.land} must return a pandas DataFrame, not {type(frame).__name__}")
    if source.available_at not in frame.columns:
        raise TableError(f"{address}: {source.land} returned no column {source.available_at} (its available_at)")
    known = pd.to_datetime(frame[source.available_at], utc=True)
    outside = (known > pd.Timestamp(as_of)) | ((known <= pd.Timestamp(after)) if after else False) | known.isna()
    if outside.any():
        raise TableError(
            f"{address}: {source.land} returned {int(outside.sum())} rows whose {source.available_at} is null or "
            f"outside ({_text(after)}, {to_text(as_of)}], such as {known[outside].iloc[0]}: "
            "return only what became known then"
        )
    return frame


def _write(
    workspace: Workspace, project: LoadedProject, source: Source, name: str, frame: "pd.DataFrame",
    after: datetime | None, as_of: datetime, path: str,
) -> Landed:  # fmt: skip
    from penstock.lakehouse.small_tables import append_once, fill_missing, to_arrow, version
    from penstock.quality.gate import check_batch

    address = f"{project.name}.{name}"
    good, quarantined = check_batch(
        workspace, project, name, frame, source.columns, source.primary_keys, source.expectations, as_of
    )
    rows = to_arrow(good, {key: column.type for key, column in source.columns.items()}, address, source.primary_keys)
    create_source_table(project, source, path)
    commit = record(as_of, folder=project.folder, definition=source.land, run=workspace.lineage.run)
    planned = to_micros(after) if after else None
    consumer = landing_consumer(address)
    if not append_once(path, fill_missing(rows, path), commit, consumer, to_micros(as_of), planned):
        raise NothingToDo(f"{address}: another run has landed up to {to_text(as_of)}, or further, meanwhile")
    return Landed(address, version(path), rows.num_rows, quarantined, to_text(as_of))


def _text(moment: datetime | None) -> str:
    return to_text(moment) if moment else "the beginning"
