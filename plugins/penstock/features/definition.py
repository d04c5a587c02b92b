"""What decides a feature table's content, as a digest that its commits keep; and how a table differs from it."""

import hashlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import GateError, ShapeChanged, TableError
from penstock.features.known import KNOWN_AT
from penstock.features.pieces import Piece, covered, remaining
from penstock.lakehouse.records import BackfillProgress, CommitRecord
from penstock.lakehouse.small_tables import create_if_missing
from penstock.spec.loading import LoadedProject
from penstock.spec.modules import module_text, module_texts
from penstock.spec.project import Column, ColumnType, FeatureTable
from penstock.spec.sql import DIALECT, parse_query

if TYPE_CHECKING:
    from deltalake import DeltaTable

_FORMAT = "2:"
KNOWN_AT_COLUMN = Column(type=ColumnType.TIMESTAMP, description="when the row's present values became known, UTC")


def definition_hash(project: LoadedProject, spec: FeatureTable, without: Collection[str] = ()) -> str:
    """A digest of the transformation, inputs, keys, grain and columns; `without`: as if these columns were not there.

    Layout and comments of a query do not count; of a function, the whole text of its module does, and of the project's
    modules that this one imports, and so on.
    """
    return _hash(spec, without, _source(project, spec, without))


def definition_sources(project: LoadedProject, spec: FeatureTable) -> dict[str, str]:
    """By file of the project, the digest of what it adds to the definition."""
    if spec.sql is not None:
        return {spec.sql: _digest(_source(project, spec, ()))}
    return {place: _digest(text) for place, text in module_texts(project, str(spec.function)).items()}


def _hash(spec: FeatureTable, without: Collection[str], source: str) -> str:
    columns = {name: str(column.type) for name, column in spec.columns.items() if name not in without}
    declared = spec.model_dump(mode="json", include={"primary_keys", "event_time", "inputs", "grain"})
    return _FORMAT + _digest(json.dumps({**declared, "columns": columns, "source": source}, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(project: LoadedProject, spec: FeatureTable, without: Collection[str]) -> str:
    if spec.sql is None:
        own, *others = list(module_texts(project, str(spec.function)).items()) or [("", "")]
        return _own_source(spec, own[1]) + (json.dumps(dict(others), sort_keys=True) if others else "")
    query = parse_query((project.folder / spec.sql).read_text(encoding="utf-8"))
    if without and query.key == "select":
        query.set("expressions", [item for item in query.expressions if item.alias_or_name not in without])
    return str(query.sql(dialect=DIALECT, comments=False))


def _own_source(spec: FeatureTable, text: str) -> str:
    return f"{spec.function}\n{text}"


def _hash_of_own_module(project: LoadedProject, spec: FeatureTable) -> str | None:
    """The digest of before imported modules counted; None for a query."""
    text = module_text(project, str(spec.function)) if spec.function is not None else None
    return None if text is None else _hash(spec, (), _own_source(spec, text))


def what_changed(
    project: LoadedProject, name: str, spec: FeatureTable, last: CommitRecord, stored: Collection[str]
) -> str | None:
    """Why the table must be computed again as a whole; None where its definition is the recorded one.

    `stored` are the columns that the table had at its last commit. Columns that were only added are filled by the
    same refresh. A definition that was taken back while a backfill was under way has left rows of two definitions.
    Raises GateError for any other change: rows that are there would stay as the old one made them.
    """
    present = definition_hash(project, spec)
    begun = last.backfill if last.backfill is not None and not last.backfill.finished else None
    if last.definition == present:
        if begun is None or not covered(begun) or begun.definition == present:
            return None
        return f"a backfill by another definition had {_done(begun)}, and that definition was taken back"
    is_old = last.definition is None or not last.definition.startswith(_FORMAT)
    if is_old or last.definition == _hash_of_own_module(project, spec):
        return "an older Penstock wrote it, and kept another digest of its definition"
    added = [column for column in spec.value_columns if column not in stored]
    if added and last.definition == definition_hash(project, spec, added):
        return f"new column(s), filled in every row: {', '.join(added)}"
    raise GateError(
        f"{project.name}.{name}: its definition ({_where_changed(project, spec, last)}) is not the one that "
        f"its rows were made by as of {last.as_of}"
        + (f", and a backfill has {_done(begun)}" if begun and covered(begun) else "")
        + f". Nothing was written. {_what_to_compute(last, begun, present)}: parameter backfill={name} of the DAG "
        f"{project.name}.feature_refresh, or penstock run feature_refresh {project.name} --backfill {name}"
        + ("" if begun else "; or take the change back")
    )


def _where_changed(project: LoadedProject, spec: FeatureTable, last: CommitRecord) -> str:
    """The files that differ from those that the rows were made by; where that was not recorded, what it may be."""
    if not last.sources:
        return f"{spec.sql or spec.function}, or its declaration"
    now = definition_sources(project, spec)
    changed = sorted(place for place in {*now, *last.sources} if now.get(place) != last.sources.get(place))
    return f"changed: {', '.join(changed)}" if changed else "changed: its declaration in project.yaml"


def _done(begun: BackfillProgress) -> str:
    done = covered(begun)
    if len(done) == 1 and done[0].after is None:
        return f"come to {to_text(done[0].until)}"
    return f"computed the event times {', and '.join(map(str, done))}"


def _what_to_compute(last: CommitRecord, begun: BackfillProgress | None, present: str) -> str:
    if begun is None or begun.definition != present:
        return "Compute them again"
    left = remaining(Piece(None, last.as_of_moment), covered(begun))
    return f"Compute the others ({', and '.join(map(str, left))})"


def create_table(project: LoadedProject, name: str, spec: FeatureTable, path: str) -> "DeltaTable":
    """The feature table, made where it is missing, with new columns where some were declared.

    Raises ShapeChanged where keys or a column's type were changed.
    """
    from deltalake import DeltaTable

    try:
        if DeltaTable.is_deltatable(path):
            _check_keys(DeltaTable(path), f"{project.name}.{name}", spec)
        return create_if_missing(
            path, {**spec.columns, KNOWN_AT: KNOWN_AT_COLUMN}, keys=spec.key_columns, description=spec.description,
            properties={"penstock.owner": spec.owner or project.spec.owner, "penstock.event_time": spec.event_time,
                        "penstock.inputs": ",".join(spec.inputs), "penstock.writer": "deltalake"},
        )  # fmt: skip
    except TableError as error:
        raise ShapeChanged(str(error), f"{project.name}.{name}") from error


def _check_keys(table: "DeltaTable", address: str, spec: FeatureTable) -> None:
    stored = table.metadata().configuration.get("penstock.primary_keys")
    if stored and json.loads(stored) != spec.key_columns:
        raise TableError(
            f"{address}: its rows are identified by {', '.join(json.loads(stored))} and it is declared with "
            f"{', '.join(spec.key_columns)}: give the table a new name, or drop it to have it made again"
        )
