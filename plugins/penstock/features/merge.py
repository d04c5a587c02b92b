"""Refresh of a feature table, second half: the gate, and the merge that makes a batch visible."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of
from penstock.features.commits import commit_batch, new_record
from penstock.features.definition import KNOWN_AT_COLUMN
from penstock.features.histories import history_path
from penstock.features.known import KNOWN_AT, KNOWN_UNTIL
from penstock.features.readmission import settle
from penstock.features.refresh import feature_table
from penstock.features.staging import CHANGE, PREVIOUS, Change, Mode, StagedBatch, remove_staging
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import CommitRecord, all_records
from penstock.lakehouse.session import read_version
from penstock.lakehouse.small_tables import (
    create_if_missing,
    exact_frame,
    fill_missing,
    read_arrow,
    read_parts,
    stream,
    upsert,
    version,
)
from penstock.spec.project import Column, ColumnType, FeatureTable
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MOST_ROWS = 1_000_000
"""How many row versions go to the history in one commit: what is merged lies in this process's memory."""


@dataclass(frozen=True)
class RefreshedTable:
    """A feature table after a refresh."""

    table: str
    version: int
    rows: int
    mode: str
    why: str
    quarantined: int
    as_of: str


@dataclass(frozen=True)
class CheckedBatch:
    """A batch that passed its gate: without the rows that went to quarantine."""

    batch: StagedBatch
    quarantined: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values, for XCom."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "CheckedBatch":
        """The reverse of `to_dict`."""
        return cls(StagedBatch.from_dict(value["batch"]), value["quarantined"])


def validate_batch(workspace: Workspace, batch: StagedBatch) -> CheckedBatch:
    """Checks a staged batch against the table's suite, and puts bad rows into quarantine.

    A bad row that would have replaced an older one removes it: a full recomputation would not have it either.

    Raises GateError where a critical expectation fails: the table stays as it is.
    """
    from penstock.quality.gate import check_batch
    from penstock.quality.validation import SPARK_FROM_ROWS

    project = workspace.project(batch.project)
    spec = feature_table(project, batch.table)

    def gate(rows: Any) -> tuple[Any, int]:
        return check_batch(
            workspace, project, batch.table, rows, spec.columns, spec.key_columns, spec.expectations,
            parse_as_of(batch.as_of), is_usual=batch.mode is not Mode.BACKFILL,
        )  # fmt: skip

    if batch.rows >= SPARK_FROM_ROWS:
        bad, quarantined = _judge_on_server(workspace, batch, spec, gate)
    else:
        bad, quarantined = _judge_here(batch, spec, gate)
    if not quarantined:
        return CheckedBatch(batch, 0)
    return CheckedBatch(_stage_again(batch, bad), quarantined)


_Gate = Callable[[Any], tuple[Any, int]]


def _judge_here(batch: StagedBatch, spec: FeatureTable, gate: _Gate) -> "tuple[pd.Index, int]":
    """The positions of bad rows in the staging table, and how many went to quarantine."""
    staged = exact_frame(read_arrow(batch.path, version=batch.version, columns=[*spec.columns, CHANGE]))
    rows = staged[staged[CHANGE] != Change.DELETE].drop(columns=CHANGE)
    good, quarantined = gate(rows)
    return rows.index.difference(good.index), quarantined


def _judge_on_server(
    workspace: Workspace, batch: StagedBatch, spec: FeatureTable, gate: _Gate
) -> "tuple[pd.Index, int]":
    """The same, judged by Spark: only keys come here."""
    import pandas as pd

    keys = spec.key_columns
    with workspace.spark() as spark:
        staged = read_version(spark, batch.path, batch.version)
        good, quarantined = gate(staged.where(f"{CHANGE} <> '{Change.DELETE}'").select(*map(quote, spec.columns)))
        if not quarantined:
            return pd.RangeIndex(0), 0
        good_keys = exact_frame(good.select(*map(quote, keys)).toArrow())
    here = exact_frame(read_arrow(batch.path, version=batch.version, columns=[*keys, CHANGE]))
    is_good = (here.merge(good_keys, on=keys, how="left", indicator=True)["_merge"] == "both").to_numpy()
    return here.index[~is_good & (here[CHANGE] != Change.DELETE).to_numpy()], quarantined


def _stage_again(batch: StagedBatch, bad: "pd.Index") -> StagedBatch:
    from deltalake import DeltaTable, write_deltalake

    write_deltalake(batch.path, stream(_without_bad(batch, bad)), mode="overwrite")
    staged = DeltaTable(batch.path)
    return replace(batch, version=staged.version(), rows=staged.count())


def _without_bad(batch: StagedBatch, bad: "pd.Index") -> "Iterator[pa.Table]":
    """The staged rows without those at the positions `bad`; where they would have replaced a row, they remove it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as compute

    begin, positions = 0, bad.to_numpy()
    for rows in read_parts(batch.path, batch.version):
        is_bad = pa.array(np.isin(np.arange(begin, begin + len(rows)), positions))
        begin += len(rows)
        removes = compute.and_(is_bad, compute.equal(rows[CHANGE], str(Change.UPDATE)))
        change = compute.if_else(removes, str(Change.DELETE), rows[CHANGE])
        left = rows.set_column(rows.column_names.index(CHANGE), CHANGE, change)
        yield left.filter(compute.or_(compute.invert(is_bad), removes))


def merge_batch(workspace: Workspace, checked: CheckedBatch) -> RefreshedTable:
    """Merges a checked batch by keys into its feature table, in one commit with the record of its inputs.

    The row versions that it replaces or removes go to `<table>_history` first. A repeat of a batch that was merged
    changes nothing, whatever was merged since. Raises ServiceError where another refresh committed since this one was
    planned.
    """
    from deltalake import DeltaTable

    batch = checked.batch
    project = workspace.project(batch.project)
    spec = feature_table(project, batch.table)
    target = workspace.addresses.writable(f"{batch.project}.{batch.table}")
    if all(found.batch != batch.id for found in all_records(DeltaTable(target))):
        commit = new_record(workspace, project, batch)
        _keep_previous(workspace, spec, batch, commit)
        commit_batch(target, spec, batch, commit)
    if DeltaTable.is_deltatable(batch.path):  # a repeat that comes after its removal has nothing left to do
        settle(workspace, batch)
        remove_staging(batch.path)
    return RefreshedTable(
        f"{batch.project}.{batch.table}", version(target), batch.rows, str(batch.mode), batch.why,
        checked.quarantined, batch.as_of,
    )  # fmt: skip


def _keep_previous(workspace: Workspace, spec: FeatureTable, batch: StagedBatch, commit: CommitRecord) -> None:
    """Keeps the row versions that a batch ends. Left by a killed refresh, they are versions that still hold: harmless.

    One of the same keys and `_known_at` is overwritten: it held at no moment.
    """
    import pyarrow as pa

    path = history_path(workspace, Address(batch.project, batch.table))
    moment = pa.scalar(parse_as_of(batch.known_at), pa.timestamp("us", tz="UTC"))
    until = Column(type=ColumnType.TIMESTAMP, description="until when these values were known, UTC")
    for ended in _ended(batch):
        create_if_missing(
            path, {**spec.columns, KNOWN_AT: KNOWN_AT_COLUMN, KNOWN_UNTIL: until}, keys=spec.key_columns,
            description=f"Row versions of {batch.project}.{batch.table} that were corrected or removed.",
            properties={"penstock.writer": "deltalake"},
        )  # fmt: skip
        rows = ended.append_column(KNOWN_UNTIL, pa.repeat(moment, len(ended)))
        upsert(path, fill_missing(rows, path), [*spec.key_columns, KNOWN_AT], commit)


def _ended(batch: StagedBatch) -> "Iterator[pa.Table]":
    """The row versions that a batch ends, some MOST_ROWS at a time."""
    import pyarrow as pa
    import pyarrow.compute as compute

    waiting: list[pa.Table] = []
    for part in read_parts(batch.path, batch.version, [PREVIOUS]):
        ended = part.filter(compute.is_valid(part[PREVIOUS]))
        if len(ended):
            waiting.append(pa.Table.from_struct_array(ended[PREVIOUS].combine_chunks()))
        if sum(map(len, waiting)) >= MOST_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
