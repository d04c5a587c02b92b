"""Which predictions a monitoring run looks at.

A window holds the predictions with prediction time in (start, end]. Each one starts where the last one
published ended, and ends where the newest batch of predictions known at as_of was scored up to, so that
nothing is left out when monitoring runs ahead of inference. What was monitored is read from
`monitoring_metrics` itself: there is no other memory of it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of, to_text
from penstock.errors import NothingToDo
from penstock.lakehouse.system_tables import SystemTable
from penstock.monitoring.metric_rows import Kind
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PREDICTION = "prediction"
PREDICTION_TIME = "prediction_time"
MODEL_VERSION = "model_version"
LABEL_COVERAGE = "label_coverage"


@dataclass(frozen=True)
class Window:
    """Predictions with prediction time in (start, end], counted by model version (as text: JSON keys are).

    `labelled_rows` is what an earlier run published of this window; empty where none did.
    """

    start: str
    end: str
    rows: dict[str, int]
    labelled_rows: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The rows of all versions."""
        return sum(self.rows.values())

    @property
    def versions(self) -> list[int]:
        """The model versions that predicted, in ascending order."""
        return sorted(int(version) for version in self.rows)


@dataclass(frozen=True)
class WindowReference:
    """What a monitoring run works on: a window of a version of the predictions table, and the window before."""

    project: str
    model: str
    as_of: str
    window: Window
    predictions: str
    predictions_version: int
    previous: Window | None = None

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "WindowReference":
        """The reverse of dataclasses.asdict, also after a passage through JSON."""
        previous = value.get("previous")
        return cls(
            **{
                **value,
                "window": Window(**value["window"]),
                "previous": Window(**previous) if previous else None,
            }
        )

    @property
    def as_of_moment(self) -> datetime:
        """as_of as a UTC datetime."""
        return parse_as_of(self.as_of)


def ingest_logs(workspace: Workspace, project: str, model: str, as_of: datetime) -> WindowReference:
    """The window that is to be monitored at as_of.

    Again at the same as_of without new predictions, it is the window of that run. Where only labels arrived
    since, it is the last window, to be judged again. Raises NothingToDo where there are no predictions,
    neither new predictions nor new labels, or where monitoring has passed as_of already.
    """
    from penstock.lakehouse.small_tables import version

    workspace.project(project).model(model)
    address = f"{project}.{model}_predictions"
    path = workspace.addresses.find(address)
    if path is None:
        raise NothingToDo(f"{address} does not exist: nothing was predicted yet, so there is nothing to monitor")
    published = read_published(workspace, project, model)
    reached: datetime | None = None if published.empty else published["as_of"].max().to_pydatetime()
    if reached is not None and as_of < reached:
        raise NothingToDo(
            f"{project}.{model} is monitored as of {to_text(reached)}: the earlier {to_text(as_of)} writes nothing"
        )
    at = version(path)
    past = published_windows(published)
    fresh = _new_window(path, at, as_of, past[-1] if past else None)
    if fresh is not None:
        return WindowReference(project, model, to_text(as_of), fresh, address, at, past[-1] if past else None)
    if not past or reached is None:
        raise NothingToDo(f"{address} holds no prediction that was made by {to_text(as_of)}")
    if reached != as_of and not _labels_arrived(workspace, project, model, past[-1], reached, as_of):
        raise NothingToDo(
            f"{address} holds nothing new since {past[-1].end}, and no label arrived "
            f"between {to_text(reached)} and {to_text(as_of)}"
        )
    return WindowReference(project, model, to_text(as_of), past[-1], address, at, past[-2] if len(past) > 1 else None)


def read_predictions(
    workspace: Workspace, reference: WindowReference, columns: list[str], versions: list[int] | None = None
) -> "pa.Table":
    """Columns of the window's predictions (of some model versions), as an Arrow table."""
    from penstock.lakehouse.small_tables import read_arrow

    path = workspace.addresses.readable(reference.predictions)
    filters = _between(reference.window.start, reference.window.end, reference.as_of_moment)
    if versions is not None:
        filters.append((MODEL_VERSION, "in", versions))
    return read_arrow(path, version=reference.predictions_version, columns=columns, filters=filters)


def read_published(workspace: Workspace, project: str, model: str) -> "pd.DataFrame":
    """The rows of `monitoring_metrics` of a model; empty where there are none."""
    import pandas as pd

    from penstock.lakehouse.small_tables import read
    from penstock.lakehouse.system_tables import SYSTEM_TABLES

    path = workspace.addresses.find(f"{project}.{SystemTable.MONITORING_METRICS}")
    if path is None:
        return pd.DataFrame(columns=list(SYSTEM_TABLES[SystemTable.MONITORING_METRICS].columns))
    return read(path, filters=[("model", "=", model)])


def published_windows(published: "pd.DataFrame") -> list[Window]:
    """The windows that were published, oldest first."""
    counts = published[(published["kind"] == Kind.VOLUME) & (published["metric"] == "rows")]
    labelled = published[(published["kind"] == Kind.QUALITY) & (published["metric"] == LABEL_COVERAGE)]
    found = []
    for end, rows in counts.groupby("window_end"):
        known = labelled[labelled["window_end"] == end]
        found.append(
            Window(
                start=to_text(rows["window_start"].min()),
                end=to_text(end),
                rows={str(v): int(n) for v, n in zip(rows[MODEL_VERSION], rows["rows"], strict=True)},
                labelled_rows={
                    str(v): int(n) for v, n in zip(known[MODEL_VERSION], known["labelled_rows"], strict=True)
                },
            )
        )
    return found


def _new_window(path: str, version: int, as_of: datetime, last: Window | None) -> Window | None:
    """The window after the last one, or None where it would hold no prediction."""
    from penstock.lakehouse.small_tables import read_arrow

    filters = _between(last.end if last else None, None, as_of)
    found = read_arrow(path, version=version, columns=[PREDICTION_TIME, MODEL_VERSION, "as_of"], filters=filters)
    if not found.num_rows:
        return None
    frame = found.to_pandas()
    start = last.end if last else to_text(_day_before(frame[PREDICTION_TIME].min().to_pydatetime()))
    counts = frame[MODEL_VERSION].value_counts().sort_index()
    return Window(
        start=start,
        end=to_text(frame["as_of"].max()),
        rows={str(version): int(count) for version, count in counts.items()},
    )


def _between(after: str | None, until: str | None, as_of: datetime) -> list[tuple[str, str, Any]]:
    """Filters: prediction times in (after, until], of predictions that were made by as_of."""
    filters: list[tuple[str, str, Any]] = [("as_of", "<=", as_of)]
    if after is not None:
        filters.append((PREDICTION_TIME, ">", parse_as_of(after)))
    if until is not None:
        filters.append((PREDICTION_TIME, "<=", parse_as_of(until)))
    return filters


def _day_before(moment: datetime) -> datetime:
    """The last start of a UTC day before a moment: where the first window starts, which has none before it."""
    earlier = moment - timedelta(microseconds=1)
    return earlier.replace(hour=0, minute=0, second=0, microsecond=0)


def _labels_arrived(
    workspace: Workspace, project: str, model: str, window: Window, since: datetime, as_of: datetime
) -> bool:
    """Whether labels became known since the last run, while predictions of the window still wait for some."""
    from penstock.features.inputs import open_input
    from penstock.lakehouse.addresses import Address
    from penstock.lakehouse.small_tables import read_arrow

    label = workspace.project(project).model(model).label
    exists = workspace.addresses.find(Address.parse(label.table, project)) is not None
    if not exists or sum(window.labelled_rows.values()) >= window.total:
        return False
    table = open_input(workspace, project, label.table)
    filters: list[tuple[str, str, Any]] = [(table.available_at, ">", since), (table.available_at, "<=", as_of)]
    return bool(read_arrow(table.path, columns=[table.available_at], filters=filters).num_rows)
