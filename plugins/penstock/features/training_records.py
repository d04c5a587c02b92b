"""The record of each training set, in the project's table `training_sets`: enough to build it again."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from penstock.clock import now, to_text
from penstock.errors import TableError
from penstock.features.entities import LABEL
from penstock.features.point_in_time import PREDICTION_TIME
from penstock.features.training_content import Content
from penstock.lakehouse.records import CommitRecord, latest_commit
from penstock.lakehouse.system_tables import SystemTable
from penstock.lakehouse.table_properties import is_made_by_client
from penstock.spec.common import Duration, Spec
from penstock.spec.faults import suggestion
from penstock.spec.loading import LoadedProject
from penstock.spec.modules import module_texts
from penstock.spec.project import Entity, Label, Lookup, Model, OnDemand
from penstock.workspace import Workspace


@dataclass(frozen=True)
class TrainingSet:
    """A training set in the lakehouse: `table`@`version`, from which table versions, over which time.

    id: its key in `training_sets`. hash: of its rows in any order. missing: by looked-up feature, the share of rows
    without a value. warnings: what a person should know of the entity rows and labels. timestamp_key, label: the
    columns of prediction times and labels (None without labels, and so is label_mean). as_known: whether the values are
    those that were known at each prediction time.
    """

    table: str
    version: int
    path: str
    as_of: str
    inputs: dict[str, int]
    rows: int
    first_prediction_time: str
    last_prediction_time: str
    label_mean: float | None
    id: str = ""
    hash: str = ""
    missing: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    timestamp_key: str = PREDICTION_TIME
    label: str | None = LABEL
    as_known: bool = False


class GivenEntities(Spec):
    """Entity rows that were given, as a table: its address, and the columns of times and labels.

    columns: those of its columns that are the entity rows'; None for all.
    """

    table: str
    timestamp_key: str
    label: str | None = None
    columns: list[str] | None = None


class Definition(Spec):
    """What decides a training set's rows and columns, beside the versions of its tables and as_of.

    Entity rows are those of a model (`entity` and `label`), or given ones.
    """

    model: str | None = None
    entity: Entity | None = None
    label: Label | None = None
    window: Duration | None = None
    given: GivenEntities | None = None
    lookups: list[Lookup]
    on_demand: dict[str, OnDemand] = {}
    as_known: bool = False

    @classmethod
    def of_model(cls, name: str, model: Model) -> "Definition":
        """The definition of a declared model's training sets."""
        return cls(
            model=name, entity=model.entity, label=model.label, window=model.training.window,
            lookups=model.lookups, on_demand=model.on_demand, as_known=model.training.as_known,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """A short hash, the same for the same definition."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def timestamp_key(self) -> str:
        """The column of prediction times."""
        return self.given.timestamp_key if self.given else PREDICTION_TIME

    @property
    def label_column(self) -> str | None:
        """The column of labels; None without labels."""
        return self.given.label if self.given else LABEL


def content_digest(project: LoadedProject, definition: Definition) -> str:
    """The definition's digest, with the code that computes on-demand features: the same where the rows must be."""
    if not definition.on_demand:
        return definition.digest
    code = [module_texts(project, spec.function) for spec in definition.on_demand.values()]
    text = json.dumps([definition.digest, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_set_path(workspace: Workspace, table: str) -> str:
    """Where a training set is written. Raises TableError where a table lies there that is none."""
    path = workspace.addresses.writable(table)
    is_other = workspace.addresses.find(table) == path and latest_commit(path) is None
    if is_other or is_made_by_client(path):
        raise TableError(
            f"{table} ({path}) is no training set, and would be overwritten by one: give the training set or the model "
            "another name, or drop that table (drop_table)"
        )
    return path


def new_training_set(
    table: str, version: int, path: str, commit: CommitRecord, definition: Definition, content: Content,
    warnings: list[str],
) -> TrainingSet:  # fmt: skip
    """A training set that was just written. Raises TableError where it is empty, or no lookup found anything."""
    if content.first is None or content.last is None:
        raise TableError(_empty(table, commit, definition))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in content.missing.items())
    if content.missing and min(content.missing.values()) == 1:
        raise TableError(
            f"{table}: for none of its {content.rows} rows any lookup found a value (missing: {shares}): do the keys "
            "match, do the feature tables reach back to the prediction times, and is max_age long enough?"
        )
    return TrainingSet(
        table=table, version=version, path=path, as_of=commit.as_of, inputs=commit.inputs, rows=content.rows,
        first_prediction_time=to_text(content.first), last_prediction_time=to_text(content.last),
        label_mean=content.label_mean, id=f"{table.partition('.')[2]}@{version}", hash=content.hash,
        missing=content.missing, warnings=warnings, timestamp_key=definition.timestamp_key,
        label=definition.label_column, as_known=definition.as_known,
    )  # fmt: skip


def _empty(table: str, commit: CommitRecord, definition: Definition) -> str:
    if definition.given:
        return f"{table}: there is no entity row"
    return (
        f"{table}: no entity row has a label that was known at {commit.as_of}: "
        "have the entity and label tables been filled, and do their keys match?"
    )


def write_record(workspace: Workspace, made: TrainingSet, definition: Definition, commit: CommitRecord) -> None:
    """Adds a training set to its project's `training_sets`; a repeat replaces the row."""
    from penstock.lakehouse.small_tables import write_system_rows

    path = workspace.addresses.writable(_records(made.table.partition(".")[0]))
    row = {
        **{name: value for name, value in asdict(made).items() if name != "path"},
        "model": definition.model,
        "as_of": commit.as_of_moment,
        "inputs": json.dumps(made.inputs, sort_keys=True),
        "definition": definition.model_dump_json(),
        "first_prediction_time": _moment(made.first_prediction_time),
        "last_prediction_time": _moment(made.last_prediction_time),
        "missing": json.dumps(made.missing),
        "warnings": json.dumps(made.warnings),
        "created_at": now(),
        "run": commit.run,
    }
    write_system_rows(path, SystemTable.TRAINING_SETS, [row], commit)


def find_training_set(workspace: Workspace, project: str, identifier: str) -> tuple[TrainingSet, Definition] | None:
    """A recorded training set and its definition by its id, such as `late_arrival_training_set@3`; None: no such."""
    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.find(_records(project))
    rows = read_arrow(path, filters=[("id", "=", identifier)]).to_pylist() if path else []
    return _of_row(workspace, rows[0]) if rows else None


def require_training_set(workspace: Workspace, project: str, identifier: str) -> tuple[TrainingSet, Definition]:
    """As `find_training_set`. Raises TableError for an unknown id, with the closest ones."""
    found = find_training_set(workspace, project, identifier)
    if found is None:
        known = [made.id for made in list_training_sets(workspace, project)]
        hint = suggestion(identifier, known, "training sets")
        raise TableError(f"{project}.training_sets has no training set {identifier!r}: {hint}")
    return found


def list_training_sets(workspace: Workspace, project: str, table: str | None = None) -> list[TrainingSet]:
    """The recorded training sets of a project (or of one `<name>_training_set`), in the order that they were made."""
    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.find(_records(project))
    rows = read_arrow(path).sort_by("created_at").to_pylist() if path else []
    return [_of_row(workspace, row)[0] for row in rows if table in (None, row["table"].partition(".")[2])]


def _of_row(workspace: Workspace, row: dict[str, Any]) -> tuple[TrainingSet, Definition]:
    definition = Definition.model_validate_json(row["definition"])
    return (
        TrainingSet(
            table=row["table"], version=row["version"], path=workspace.addresses.expected(row["table"]),
            as_of=to_text(row["as_of"]), inputs=json.loads(row["inputs"]), rows=row["rows"],
            first_prediction_time=to_text(row["first_prediction_time"]),
            last_prediction_time=to_text(row["last_prediction_time"]), label_mean=row["label_mean"],
            id=row["id"], hash=row["hash"], missing=json.loads(row["missing"]), warnings=json.loads(row["warnings"]),
            timestamp_key=definition.timestamp_key, label=definition.label_column, as_known=definition.as_known,
        ),
        definition,
    )  # fmt: skip


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _records(project: str) -> str:
    return f"{project}.{SystemTable.TRAINING_SETS}"
