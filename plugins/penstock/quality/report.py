"""Reports: each validation leaves a page and its verdict as JSON, beside the table that it was about.

`<lakehouse root>/<project>/_reports/<table>/<as_of>.json` and `.html`. A validation that is repeated for
an as_of replaces its report, so the newest as_of holds a table's newest verdict.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from penstock.clock import now, parse_as_of, to_text
from penstock.errors import ServiceError
from penstock.gates import Outcome, Verdict
from penstock.quality.quarantine import distinct_rows, entry_id
from penstock.quality.rows import canonical_json, describe_keys
from penstock.quality.validation import BatchResult
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

FOLDER = "_reports"
MOST_ROWS = 200


@dataclass(frozen=True)
class OpenFailure:
    """A table whose newest verdict is a critical failure: its batch waits for data or suite to be mended."""

    table: str
    as_of: str
    reason: str
    report: str


def write_report(workspace: Workspace, project_name: str, table: str, result: BatchResult, as_of: datetime) -> str:
    """Writes the page and the verdict of a validation, and answers the page's path.

    Raises ServiceError where the place cannot be written.
    """
    files, folder = report_place(workspace, project_name, table)
    name = f"{folder}/{_file_name(as_of)}"
    summary = {
        "project": project_name, "table": table, "as_of": to_text(as_of), "rows": result.rows,
        "good_rows": result.good_count, "bad_rows": result.bad_count, "engine": str(result.engine),
        "verdict": result.verdict.to_dict(), "run": workspace.lineage.run, "written_at": to_text(now()),
    }  # fmt: skip
    try:
        files.create_dir(folder, recursive=True)
        write_file(files, f"{name}.html", to_html(result, as_of))
        write_file(files, f"{name}.json", json.dumps(summary, indent=1, default=str))
    except OSError as error:
        raise ServiceError(f"the report {name}.html cannot be written: {error}") from error
    return f"{name}.html"


def latest_verdict(
    workspace: Workspace, project_name: str, table: str, as_of: datetime | None = None
) -> dict[str, Any] | None:
    """The newest verdict of a table (up to as_of) as it was written; None where it was never validated."""
    from pyarrow.fs import FileSelector

    files, folder = report_place(workspace, project_name, table)
    last = _file_name(as_of) if as_of else None
    names = [info.base_name.removesuffix(".json")
             for info in files.get_file_info(FileSelector(folder, allow_not_found=True))
             if info.base_name.endswith(".json")]  # fmt: skip
    wanted = [name for name in names if last is None or name <= last]
    if not wanted:
        return None
    path = f"{folder}/{max(wanted)}"
    with files.open_input_stream(f"{path}.json") as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return {**found, "report": f"{path}.html"}


def open_failures(workspace: Workspace, project_name: str, as_of: datetime | None = None) -> list[OpenFailure]:
    """The tables of a project whose newest verdict (up to as_of) is a critical failure, by name."""
    from pyarrow.fs import FileSelector, FileType

    files, folder = report_place(workspace, project_name)
    tables = [info.base_name for info in files.get_file_info(FileSelector(folder, allow_not_found=True))
              if info.type is FileType.Directory]  # fmt: skip
    failures = []
    for table in sorted(tables):
        found = latest_verdict(workspace, project_name, table, as_of)
        if found is not None and found["verdict"]["outcome"] == Outcome.FAIL:
            failures.append(OpenFailure(table, found["as_of"], found["verdict"]["reason"], found["report"]))
    return failures


def latest_failure(workspace: Workspace, project_name: str, as_of: datetime | None = None) -> OpenFailure | None:
    """The newest open failure of a project; None where every table's newest verdict let it through."""
    return max(
        open_failures(workspace, project_name, as_of), key=lambda failure: parse_as_of(failure.as_of), default=None
    )


def to_html(result: BatchResult, as_of: datetime) -> str:
    """A page of its own, without scripts or anything from elsewhere: verdict, checks, bad rows (the first 200)."""
    verdict = result.verdict
    title = escape(f"{result.table}: {verdict.outcome}")
    facts = f"As of {to_text(as_of)}: {result.rows} rows, {result.good_count} good, {result.bad_count} bad."
    if not verdict.passed:
        facts += " The table stops: none of these rows went on."
    return (
        f"<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><p>{escape(facts)}</p>{_checks(verdict)}{_bad_rows(result)}</body></html>\n"
    )


_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:110em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
    ".fail{background:#fbdcdc}.warn{background:#fdf3cf}.pass{background:#e3f5e3}td{overflow-wrap:anywhere}"
)


def _checks(verdict: Verdict) -> str:
    rows = "".join(
        f"<tr class={check.outcome}><td>{escape(check.name)}<td>{check.outcome}<td>{escape(check.detail)}"
        for check in verdict.checks
    )
    return f"<h2>Checks</h2><table><tr><th>check<th>outcome<th>detail{rows}</table>"


def _bad_rows(result: BatchResult) -> str:
    if not result.bad_rows:
        return ""
    rows = "".join(
        f"<tr><td>{entry_id(result.table, keys, canonical_json(bad.row))}<td>{escape(describe_keys(bad.keys))}"
        f"<td>{'<br>'.join(escape(_reason(one)) for one in bad.reasons)}<td>{escape(describe_keys(bad.row))}"
        for keys, bad in distinct_rows(result.bad_rows)[:MOST_ROWS]
    )
    count = len(result.bad_rows)
    note = f"The first {MOST_ROWS} of {count}. " if count > MOST_ROWS else ""
    note += (
        "All are in quarantine. They get back by their ids: <code>penstock quarantine</code>, or the DAG "
        "<code>quarantine_release</code>." if result.passed else "None is in quarantine, for the table stopped."
    )  # fmt: skip
    return f"<h2>Bad rows</h2><p>{note}</p><table><tr><th>id<th>keys<th>reasons<th>row{rows}</table>"


def _reason(reason: Mapping[str, Any]) -> str:
    return f"{reason['expectation']}({reason['column']}): {reason['value']}"


def report_place(workspace: Workspace, project_name: str, table: str | None = None) -> "tuple[FileSystem, str]":
    """Where the reports on a table (or on whatever has a folder of its own) are: a file system, and a folder of it."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    place = workspace.addresses.writable(f"{project_name}.{FOLDER}") + (f"/{table}" if table else "")
    if "://" in place:
        files, path = FileSystem.from_uri(place)
        return files, path
    return LocalFileSystem(), place


def write_file(files: "FileSystem", path: str, text: str) -> None:
    """Readers see the old file or the new one."""
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    with files.open_output_stream(partial) as stream:
        stream.write(text.encode("utf-8"))
    files.move(partial, path)


def _file_name(as_of: datetime) -> str:
    """Sorts as time does; without colons, which some file systems refuse."""
    return as_of.astimezone(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")
