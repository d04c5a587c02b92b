"""The reports that validations and monitoring leave under `<lakehouse>/<project>/_reports/`."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.errors import TableError
from penstock.quality.report import FOLDER
from penstock.ui.faults import UnknownPage, reading
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2})(\d{2})(\d{2})(\.\d{1,6})?Z")


@dataclass(frozen=True)
class Shelf:
    """Where the reports on one thing are: a table's validations, or a model's monitoring."""

    workspace: Workspace
    project: str
    folder: str

    @classmethod
    def of_table(cls, workspace: Workspace, project: str, table: str) -> "Shelf":
        """Validations of a table, as penstock.quality.report leaves them."""
        return cls(workspace, project, table)

    @classmethod
    def of_model(cls, workspace: Workspace, project: str, model: str) -> "Shelf":
        """Monitoring of a model, as penstock.monitoring.report leaves it."""
        return cls(workspace, project, f"{model}/monitoring")

    def names(self) -> list[str]:
        """The reports, newest first. Raises Unreadable."""
        from pyarrow.fs import FileSelector

        with reading(f"the reports in {self.folder}"):
            files, folder = self._place()
            found = [info.base_name for info in files.get_file_info(FileSelector(folder, allow_not_found=True))]
        stems = {name.removesuffix(".html") for name in found if name.endswith(".html")}
        return sorted((stem for stem in stems if _NAME.fullmatch(stem)), reverse=True)

    def page(self, name: str) -> bytes:
        """A report's page. Raises UnknownPage for a name that is not among `names`, Unreadable."""
        content = self._read(f"{name}.html") if name in self.names() else None
        if content is None:
            raise UnknownPage(
                f"There is no report {name!r} on {self.project}.{self.folder}.", "Choose one from the list."
            )
        return content

    def verdict(self, name: str) -> dict[str, Any] | None:
        """What the JSON beside one of `names` says; None for a report that has none. Raises Unreadable."""
        content = self._read(f"{name}.json")
        with reading(f"{name}.json"):
            return json.loads(content) if content is not None else None

    def _read(self, file: str) -> bytes | None:
        from pyarrow.fs import FileType

        with reading(f"the report {file}"):
            files, folder = self._place()
            if files.get_file_info(f"{folder}/{file}").type is not FileType.File:
                return None
            with files.open_input_stream(f"{folder}/{file}") as stream:
                return bytes(stream.read())

    def _place(self) -> "tuple[FileSystem, str]":
        from pyarrow.fs import FileSystem, LocalFileSystem

        try:
            place = f"{self.workspace.addresses.writable(f'{self.project}.{FOLDER}')}/{self.folder}"
        except TableError as error:  # a name that is no identifier
            raise UnknownPage(str(error)) from error
        if "://" in place:
            files, path = FileSystem.from_uri(place)
            return files, path
        return LocalFileSystem(), place


def moment(name: str) -> str:
    """The moment that a report's name stands for, as it is written elsewhere: 2013-05-01T00:00:00Z."""
    found = _NAME.fullmatch(name)
    if found is None:
        return name
    day, hours, minutes, seconds, fraction = found.groups()
    rest = (fraction or "").rstrip("0").rstrip(".")
    return f"{day}T{hours}:{minutes}:{seconds}{rest}Z"
