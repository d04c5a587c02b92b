"""The second half of a refresh: the gate, and the merge that makes a batch visible."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of
from penstock.errors import ServiceError
from penstock.features.inputs import quote
from penstock.features.refresh import CHANGE, Change, StagedBatch, feature_table, new_record
from penstock.lakehouse.small_tables import version
from penstock.spec.project import FeatureTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

_SETTINGS = "spark.databricks.delta."


@dataclass(frozen=True)
class RefreshedTable:
    """A feature table after a refresh."""

    table: str
    version: int
    rows: int
    mode: str
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
        return cls(StagedBatch(**value["batch"]), value["quarantined"])


def validate_batch(workspace: Workspace, batch: StagedBatch) -> CheckedBatch:
    """Checks a staged batch against the table's suite, and puts bad rows into quarantine.

    A bad row that would have replaced an older one removes it: a full recomputation would not have it either.

    Raises GateError where a critical expectation fails: the table stays as it is.
    """
    from deltalake import write_deltalake

    from penstock.lakehouse.small_tables import read, to_arrow
    from penstock.quality.gate import check_batch

    project = workspace.project(batch.project)
    spec = feature_table(project, batch.table)
    staged = read(batch.path, version=batch.version)
    deleted = staged[CHANGE] == Change.DELETE
    rows = staged[~deleted].drop(columns=CHANGE)
    good, quarantined = check_batch(
        workspace, project, batch.table, rows, spec.columns, spec.key_columns, spec.expectations,
        parse_as_of(batch.as_of),
    )  # fmt: skip
    if not quarantined:
        return CheckedBatch(batch, 0)
    bad = ~staged.index.isin(good.index) & ~deleted
    staged.loc[bad & (staged[CHANGE] == Change.UPDATE), CHANGE] = str(Change.DELETE)
    kept = staged.loc[~bad | (staged[CHANGE] == Change.DELETE)]
    columns = {name: column.type for name, column in spec.columns.items()}
    from penstock.spec.project import ColumnType

    write_deltalake(batch.path, to_arrow(kept, {**columns, CHANGE: ColumnType.STRING}, batch.table), mode="overwrite")
    return CheckedBatch(replace(batch, version=version(batch.path), rows=len(kept)), quarantined)


def merge_batch(workspace: Workspace, checked: CheckedBatch) -> RefreshedTable:
    """Merges a checked batch by keys into its feature table, in one commit with the record of its inputs.

    A batch of new keys only is appended, which costs a third of a MERGE; the mark refuses it where somebody else
    has committed a batch that was planned against the same version.
    """
    batch = checked.batch
    project = workspace.project(batch.project)
    spec = feature_table(project, batch.table)
    target = workspace.addresses.writable(f"{batch.project}.{batch.table}")
    with workspace.spark() as spark:
        mark_commits(
            spark, f"refresh:{batch.project}.{batch.table}", batch.planned_version + 1,
            new_record(workspace, project, batch).to_json(),
        )  # fmt: skip
        staged = spark.read.format("delta").option("versionAsOf", batch.version).load(batch.path)
        if _changes(batch) <= {Change.INSERT}:
            staged.drop(CHANGE).write.format("delta").mode("append").save(target)
        else:
            staged.createOrReplaceTempView("staged")
            spark.sql(_merge_statement(target, spec)).collect()
    _verify(target, batch)
    return RefreshedTable(
        f"{batch.project}.{batch.table}", version(target), batch.rows, str(batch.mode), checked.quarantined, batch.as_of
    )


def _verify(target: str, batch: StagedBatch) -> None:
    """Delta skips or refuses the second of two commits that were planned against one version; this says so."""
    from penstock.lakehouse.records import latest_record

    last = latest_record(target)
    if last is None or (last.as_of, last.inputs, last.definition) != (batch.as_of, batch.inputs, batch.definition):
        raise ServiceError(
            f"{batch.project}.{batch.table}: another refresh (as of {last.as_of if last else 'unknown'}) was faster; "
            "run the refresh again, it goes on from there"
        )


def _changes(batch: StagedBatch) -> set[str]:
    import pyarrow.compute as compute

    from penstock.lakehouse.small_tables import read_arrow

    column = read_arrow(batch.path, version=batch.version, columns=[CHANGE])[CHANGE]
    return set(compute.unique(column).to_pylist())


def _merge_statement(target: str, spec: FeatureTable) -> str:
    condition = " AND ".join(f"t.{quote(key)} = s.{quote(key)}" for key in spec.key_columns)
    values = ", ".join(f"t.{quote(name)} = s.{quote(name)}" for name in spec.columns)
    return (
        f"MERGE INTO delta.{quote(target)} t USING staged s ON {condition} "
        f"WHEN MATCHED AND s.{CHANGE} = '{Change.DELETE}' THEN DELETE "
        f"WHEN MATCHED THEN UPDATE SET {values} "
        f"WHEN NOT MATCHED AND s.{CHANGE} <> '{Change.DELETE}' THEN INSERT ({', '.join(map(quote, spec.columns))}) "
        f"VALUES ({', '.join('s.' + quote(name) for name in spec.columns)})"
    )


def mark_commits(spark: "SparkSession", app_id: str, app_version: int, metadata: str) -> None:
    """Every commit of this session carries the mark of its consumer, once, and the record of its inputs."""
    spark.conf.set(f"{_SETTINGS}write.txnAppId", app_id)
    spark.conf.set(f"{_SETTINGS}write.txnVersion", str(app_version))
    spark.conf.set(f"{_SETTINGS}commitInfo.userMetadata", metadata)
