"""The way back from quarantine: rows are accepted as they are, corrected by hand, or replaced by a later batch.

A decision is written into the row's entry. The table takes the row up in its next refresh.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from penstock.clock import now
from penstock.errors import GateError, ServiceError, TableError
from penstock.gates import Outcome
from penstock.lakehouse.small_tables import arrow_schema, exact_frame
from penstock.quality.batches import at_keys
from penstock.quality.quarantine import SAME_KEYS, Entry, QuarantineOutcome, read_entries, write_entries
from penstock.quality.rows import BadRow, canonical_json, describe_keys, plain
from penstock.quality.suite import Level, load_suite
from penstock.quality.validation import validate_batch
from penstock.spec.faults import suggestion
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame

ID = "quarantine_id"
_TO_TAKE_UP = (QuarantineOutcome.ACCEPTED, QuarantineOutcome.CORRECTED)


@dataclass(frozen=True)
class Release:
    """What a decision changed: rows released now, rows that were released before, rows that cannot be accepted."""

    table: str
    outcome: str
    released: int
    before: int
    without_key: int = 0


def accept_rows(
    workspace: Workspace, project: str, table: str, ids: Sequence[str] | None, reason: str, by: str
) -> Release:
    """Lets rows (all open ones, where `ids` is None) into their table as they are, in its next refresh.

    Deciding twice changes nothing. Raises TableError for an unknown id, for a row that was released otherwise and for
    one without a key, which no table can hold (of all open rows, those stay and are counted); ServiceError where
    somebody else decided on a row meanwhile.
    """
    entries = {entry["id"]: entry for entry in _entries(workspace, project, table)}
    _know(ids or (), entries, f"{project}.{table}")
    chosen = [entries[name] for name in dict.fromkeys(ids)] if ids is not None else list(entries.values())
    if ids is not None:
        _must_be_acceptable(chosen, f"{project}.{table}")
    waiting = [entry for entry in chosen if entry["outcome"] is None]
    taken = [entry for entry in waiting if _has_keys(entry)]
    _decide_all(workspace, project, table, taken, QuarantineOutcome.ACCEPTED, reason, by)
    before = sum(entry["outcome"] == QuarantineOutcome.ACCEPTED for entry in chosen)
    return Release(
        f"{project}.{table}", QuarantineOutcome.ACCEPTED, len(taken), before, without_key=len(waiting) - len(taken)
    )


def correct_rows(
    workspace: Workspace, project: str, table: str, frame: "pd.DataFrame", reason: str, by: str
) -> Release:
    """Puts corrected rows in the place of open ones; they go into the table in its next refresh.

    A corrected row stands for the open row that `quarantine_id` names or, without that column, that has its keys.
    Raises TableError for a feature table (its rows are computed), and for a row that stands for none;
    GateError where a corrected row does not pass the table's suite. Nothing is written then. ServiceError where
    somebody else decided on a row meanwhile.
    """
    spec = workspace.project(project).spec.sources.get(table)
    address = f"{project}.{table}"
    if spec is None:
        raise TableError(
            f"{address} is no source: the rows of a feature table are computed. Correct the rows of its inputs or its "
            "transformation, and they are computed again; or accept them as they are"
        )
    entries = _entries(workspace, project, table)
    _must_pass(workspace, project, table, frame.drop(columns=ID, errors="ignore"))
    whole = _whole_numbers(spec.columns)
    corrected, before = [], 0
    for record in frame.to_dict("records"):
        row = {name: plain(record[name], whole=name in whole) for name in spec.columns}
        entry = _stands_for(entries, record.get(ID), {key: row[key] for key in spec.primary_keys}, address)
        text = canonical_json(row)
        if entry["outcome"] == QuarantineOutcome.CORRECTED and entry["correction"] == text:
            before += 1
            continue
        if entry["outcome"] is not None:
            raise TableError(
                f"{address}: the row {entry['id']} was {entry['outcome']} before: nothing is left to correct"
            )
        corrected.append({**entry, "correction": text})
    _decide_all(workspace, project, table, corrected, QuarantineOutcome.CORRECTED, reason, by)
    return Release(address, QuarantineOutcome.CORRECTED, len(corrected), before)


def read_corrections(workspace: Workspace, project: str, table: str, file: Path) -> "pd.DataFrame":
    """A CSV (or Parquet) file of corrected rows, by the types that the source declares.

    Raises TableError where the file cannot be read so.
    """
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    spec = workspace.project(project).spec.sources.get(table)
    types = {name: column.type for name, column in spec.columns.items()} if spec else {}
    schema = arrow_schema({**types, ID: ColumnType.STRING})
    try:
        if file.suffix == ".parquet":
            return exact_frame(parquet.read_table(file))
        options = csv.ConvertOptions(
            column_types={field.name: field.type for field in schema},
            strings_can_be_null=True,
            null_values=["", "null"],
        )
        return exact_frame(csv.read_csv(file, convert_options=options))
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(f"{file}: cannot be read as rows of {project}.{table}: {error}") from error


def waiting_rows(workspace: Workspace, project: str, table: str) -> list[Entry]:
    """The entries that were accepted or corrected and that the table has not taken up yet."""
    return [
        entry for entry in read_entries(workspace, project, table)
        if entry["outcome"] in _TO_TAKE_UP and entry["readmitted_at"] is None
    ]  # fmt: skip


def mark_readmitted(workspace: Workspace, project: str, entries: Sequence[Entry]) -> None:
    """Notes that the table has taken rows up, by the decisions that they were taken up by."""
    moment = now()
    if entries:
        taken_up = [{**entry, "readmitted_at": moment} for entry in entries]
        write_entries(workspace, project, taken_up, moment, update_if="t.released_at = s.released_at")


def accepted_rows(entries: Sequence[Entry], columns: Mapping[str, Column]) -> Callable[[BadRow], bool]:
    """Says of a bad row whether somebody accepted it: by the values of its declared columns."""

    def content(row: Mapping[str, Any]) -> str:
        return canonical_json({name: row.get(name) for name in columns})

    accepted = {
        content(json.loads(entry["row"])) for entry in entries if entry["outcome"] == QuarantineOutcome.ACCEPTED
    }
    return lambda bad: bool(accepted) and content(bad.row) in accepted


def close_replaced(
    workspace: Workspace, project: str, table: str, good: "pd.DataFrame | DataFrame",
    keys: Sequence[str], columns: Mapping[str, Column], as_of: datetime,
) -> int:  # fmt: skip
    """Closes open entries of a table whose keys a good row has: it was corrected where it comes from. Answers how many.

    Those that were named by other keys than today's stay open: which row would replace them cannot be told. What a
    person decides in these moments stands.
    """
    open_entries = [
        entry for entry in read_entries(workspace, project, table)
        if entry["outcome"] is None and _has_keys(entry) and set(json.loads(entry["keys"])) - {SAME_KEYS} == set(keys)
    ]  # fmt: skip
    if not open_entries:
        return 0
    wanted = [{key: json.loads(entry["keys"])[key] for key in keys} for entry in open_entries]
    some = _rows_at(good, keys, wanted, columns)
    whole = _whole_numbers(columns)
    found = {
        canonical_json({key: plain(row[key], whole=key in whole) for key in keys}) for row in some.to_dict("records")
    }
    replaced = [
        entry for entry, row in zip(open_entries, wanted, strict=True) if canonical_json(row) in found
    ]  # fmt: skip
    reason = "a later batch brought a row with these keys that passes"
    return len(
        _decide(workspace, project, table, replaced, QuarantineOutcome.REPLACED, reason, workspace.lineage.run, as_of)
    )


def _rows_at(
    good: "pd.DataFrame | DataFrame", keys: Sequence[str], wanted: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
) -> "pd.DataFrame":  # fmt: skip
    """The key columns of the good rows at some keys."""
    import pandas as pd

    if hasattr(good, "sparkSession"):
        references = [tuple(row.values()) for row in wanted]
        return exact_frame(at_keys(cast("DataFrame", good), keys, references, "left_semi").select(*keys).toArrow())
    frame = cast("pd.DataFrame", good)[list(keys)]
    moments = [key for key in keys if columns[key].type is ColumnType.TIMESTAMP]
    frame = frame.assign(**{key: pd.to_datetime(frame[key], utc=True) for key in moments})
    return frame.merge(typed_frame(wanted, columns), on=list(keys))


def _whole_numbers(columns: Mapping[str, Column]) -> set[str]:
    return {name for name, column in columns.items() if column.type in (ColumnType.INT, ColumnType.BIGINT)}


def typed_frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> "pd.DataFrame":
    """Rows of plain values (`penstock.quality.rows.plain`), all with the same names, as a DataFrame of those types."""
    import pandas as pd

    names = [name for name in columns if not rows or name in rows[0]]
    frame = pd.DataFrame([[row[name] for name in names] for row in rows], columns=names, dtype=object)
    types = {
        ColumnType.STRING: "object", ColumnType.BOOLEAN: "boolean", ColumnType.INT: "Int32", ColumnType.BIGINT: "Int64",
        ColumnType.FLOAT: "float32", ColumnType.DOUBLE: "float64", ColumnType.DATE: "object",
    }  # fmt: skip
    for name in names:
        kind = columns[name].type
        if kind is ColumnType.TIMESTAMP:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601").dt.as_unit("us")
        else:
            frame[name] = frame[name].astype(types[kind])
        if kind is ColumnType.DATE:
            frame[name] = pd.to_datetime(frame[name]).dt.date
    return frame


def _entries(workspace: Workspace, project: str, table: str) -> list[Entry]:
    spec = workspace.project(project).spec
    if table not in spec.sources and table not in spec.feature_tables:
        hint = suggestion(table, [*spec.sources, *spec.feature_tables], "tables")
        raise TableError(f"{project}.{table} is neither a source nor a feature table of project {project}: {hint}")
    return read_entries(workspace, project, table)


def _know(ids: Sequence[str], entries: Mapping[str, Entry], address: str) -> None:
    unknown = [name for name in ids if name not in entries]
    if unknown:
        raise TableError(
            f"{address}: no row {', '.join(unknown)} in quarantine (`penstock quarantine list` shows their names)"
        )


def _must_be_acceptable(entries: Sequence[Entry], address: str) -> None:
    for entry in entries:
        if not _has_keys(entry):
            raise TableError(f"{address}: the row {entry['id']} has a null key, which no table can hold: correct it")
        if entry["outcome"] not in (None, QuarantineOutcome.ACCEPTED):
            raise TableError(
                f"{address}: the row {entry['id']} was {entry['outcome']} before: nothing is left to accept"
            )


def _has_keys(entry: Entry) -> bool:
    return all(value is not None for value in json.loads(entry["keys"]).values())


def _decide_all(
    workspace: Workspace, project: str, table: str, entries: Sequence[Entry], outcome: QuarantineOutcome, reason: str,
    by: str,
) -> None:  # fmt: skip
    """A person's decision. Raises ServiceError for entries that others decided on meanwhile: their decision stands."""
    decided = _decide(workspace, project, table, entries, outcome, reason, by)
    lost = [entry["id"] for entry in entries if entry["id"] not in decided]
    if lost:
        raise ServiceError(
            f"{project}.{table}: the row(s) {', '.join(lost)} were decided on meanwhile, and stay so "
            f"({len(decided)} other row(s) are {outcome}): `penstock quarantine list --closed` shows by whom and why"
        )


def _decide(
    workspace: Workspace, project: str, table: str, entries: Sequence[Entry], outcome: QuarantineOutcome, reason: str,
    by: str, as_of: datetime | None = None,
) -> set[str]:  # fmt: skip
    """Writes a decision on entries that are still open; answers the ids of those that it stands for."""
    if not entries:
        return set()
    moment = now()
    decision = {"outcome": str(outcome), "released_at": moment, "released_by": by, "release_reason": reason}
    decided = [{**entry, **decision} for entry in entries]
    write_entries(workspace, project, decided, as_of or moment, update_if="t.outcome IS NULL")
    wanted = {entry["id"] for entry in entries}
    return {
        entry["id"] for entry in read_entries(workspace, project, table)
        if entry["id"] in wanted
        and (entry["outcome"], entry["released_at"], entry["released_by"]) == (str(outcome), moment, by)
    }  # fmt: skip


def _must_pass(workspace: Workspace, project: str, table: str, frame: "pd.DataFrame") -> None:
    loaded = workspace.project(project)
    spec = loaded.spec.sources[table]
    suite = load_suite(loaded.folder / spec.expectations) if spec.expectations else None
    if suite is not None:
        # What is asked of a batch as a whole cannot be asked of a few rows.
        suite = replace(suite, expectations=tuple(item for item in suite.expectations if item.level is Level.ROW))
    verdict = validate_batch(frame, suite, spec.primary_keys, table, spec.columns).verdict
    if verdict.outcome is not Outcome.PASS:
        raise GateError(f"{project}.{table}: the corrected rows do not pass either: {verdict.reason[:2000]}")


def _stands_for(entries: Sequence[Entry], name: Any, keys: dict[str, Any], address: str) -> Entry:
    """The entry that a corrected row is about."""
    if isinstance(name, str):
        found = [entry for entry in entries if entry["id"] == name]
    else:
        text = canonical_json(keys)
        found = [entry for entry in entries if entry["keys"] == text and entry["outcome"] != QuarantineOutcome.REPLACED]
    if len(found) != 1:
        what = f"{ID} {name}" if isinstance(name, str) else describe_keys(keys)
        how = "no row" if not found else f"{len(found)} rows"
        raise TableError(f"{address}: {how} in quarantine with {what}: name it by a column {ID}, as `list` shows it")
    return found[0]
