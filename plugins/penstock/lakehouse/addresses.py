"""Addresses of tables: the one place that builds paths."""

from dataclasses import dataclass
from pathlib import Path

from penstock.errors import TableError
from penstock.spec.environment import LakehouseSpec

_LOG = "_delta_log"


@dataclass(frozen=True)
class Address:
    """A table by project and name; `root` forces one of the environment's read-only roots."""

    project: str
    table: str
    root: str | None = None

    @classmethod
    def parse(cls, text: str, project: str | None = None) -> "Address":
        """`table` (of `project`), `project.table` or `root:project.table`. Raises TableError."""
        root, colon, rest = text.rpartition(":")
        parts = rest.split(".")
        if len(parts) == 1 and project is not None:
            parts = [project, *parts]
        if len(parts) != 2 or not all(part.isidentifier() for part in parts) or (colon and not root):
            raise TableError(f"{text!r} is no table address: write project.table or root:project.table")
        return cls(parts[0], parts[1], root or None)

    def __str__(self) -> str:
        return f"{self.root + ':' if self.root else ''}{self.project}.{self.table}"


class Addresses:
    """Resolves addresses: first the environment's own root, then its read-only roots in order."""

    def __init__(self, spec: LakehouseSpec) -> None:
        self._spec = spec

    def writable(self, address: Address | str) -> str:
        """The path of a table that this environment writes. Raises TableError for a read-only root."""
        address = Address.parse(address) if isinstance(address, str) else address
        if address.root is not None:
            raise TableError(f"{address} names the read-only root {address.root}: this environment cannot write there")
        return self._join(self._spec.root, address)

    def readable(self, address: Address | str) -> str:
        """The path of an existing table. Raises TableError where none of the roots has it."""
        address = Address.parse(address) if isinstance(address, str) else address
        path = self.find(address)
        if path is None:
            roots = ", ".join(root for _, root in self._roots(address))
            raise TableError(f"table {address} does not exist in {roots}: has the pipeline that fills it run?")
        return path

    def find(self, address: Address | str) -> str | None:
        """The path of an existing table, or None."""
        address = Address.parse(address) if isinstance(address, str) else address
        for _, root in self._roots(address):
            path = self._join(root, address)
            if _is_table(path):
                return path
        return None

    def expected(self, address: Address | str) -> str:
        """The path of a table that exists, or will: in this environment's own root."""
        return self.find(address) or self.writable(address)

    def tables(self, project: str) -> dict[str, str]:
        """The existing tables of a project by name, with their paths; the own root's before the read-only ones'."""
        found: dict[str, str] = {}
        for _, root in self._roots(Address(project, "")):
            for name in _folders(f"{root.rstrip('/')}/{project}"):
                if name not in found and name.isidentifier() and (path := self.find(Address(project, name))):
                    found[name] = path
        return dict(sorted(found.items()))

    def _roots(self, address: Address) -> list[tuple[str | None, str]]:
        named: list[tuple[str | None, str]] = [(root.name, root.root) for root in self._spec.read_only]
        if address.root is None:
            return [(None, self._spec.root), *named]
        chosen = [pair for pair in named if pair[0] == address.root]
        if not chosen:
            known = ", ".join(str(name) for name, _ in named) or "none"
            raise TableError(f"{address}: this environment has no read-only root {address.root!r} (it has: {known})")
        return chosen

    @staticmethod
    def _join(root: str, address: Address) -> str:
        return f"{root.rstrip('/')}/{address.project}/{address.table}"


def beside(path: str, table: str) -> str:
    """The path of a table of the same project, in the same root, as the one at `path`."""
    return f"{path.rstrip('/').rpartition('/')[0]}/{table}"


def full_name(table: str, project: str) -> str:
    """`project.table` of a table as a specification of `project` names it."""
    address = Address.parse(table, project)
    return f"{address.project}.{address.table}"


def _folders(path: str) -> list[str]:
    if "://" not in path:
        return [item.name for item in Path(path).iterdir() if item.is_dir()] if Path(path).is_dir() else []
    from pyarrow.fs import FileSelector, FileSystem, FileType

    system, inner = FileSystem.from_uri(path)
    found = system.get_file_info(FileSelector(inner, allow_not_found=True))
    return [info.base_name for info in found if info.type == FileType.Directory]


def _is_table(path: str) -> bool:
    if "://" in path:
        from deltalake import DeltaTable

        return DeltaTable.is_deltatable(path)
    return (Path(path) / _LOG).is_dir()
