"""Which versions of a Delta table can still be read: maintenance removes files and commits that nobody needs."""

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_LOOKED_AT = 200


def is_readable(path: str, version: int) -> bool:
    """Whether a version's commits and all its files are there."""
    from penstock.lakehouse.maintenance import open_files

    system, folder = open_files(path)
    names = _files(path, version)
    return names is not None and _there(system, folder, names)


def readable_versions(path: str, newest: int) -> str:
    """The versions that can be read, such as `3, 7 to 9`; of a long log its last 200 are looked at."""
    first = max(newest - _LOOKED_AT + 1, 0)
    found = [version for version in range(first, newest + 1) if is_readable(path, version)]
    begins = [version for version in found if version - 1 not in found]
    ends = [version for version in found if version + 1 not in found]
    return ", ".join(f"{a} to {b}" if a != b else str(a) for a, b in zip(begins, ends, strict=True)) or "none"


def _files(path: str, version: int) -> list[str] | None:
    """The data files of a version as the log names them; None where the log does not reach it any more."""
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        actions = pa.table(DeltaTable(path, version=version).get_add_actions(flatten=True))
    except (DeltaError, OSError):
        return None
    return [str(name) for name in actions["path"].to_pylist()]


def _there(system: "FileSystem", folder: str, names: list[str]) -> bool:
    from pyarrow.fs import FileType

    own = [name for name in names if "://" not in name]  # a clone names the files of the table that it was made from
    infos = system.get_file_info([f"{folder}/{unquote(name)}" for name in own])
    return all(info.type == FileType.File for info in infos)
