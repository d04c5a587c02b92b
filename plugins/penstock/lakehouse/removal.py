"""Removing a table's folder, or setting it aside in a place where no table is looked for."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_LOG = "_delta_log"


def remove_folder(path: str) -> None:
    """Removes a folder; nothing where there is none. Its log goes first: a killed removal leaves no half a table."""
    from pyarrow.fs import FileType

    system, inner = _open(path)
    for folder in (f"{inner}/{_LOG}", inner):
        if system.get_file_info(folder).type == FileType.Directory:
            system.delete_dir(folder)


def set_aside(path: str, target: str) -> bool:
    """Moves a folder, whose parent is made; False where there is none.

    In an object store, which moves no folders, it is copied and then removed: killed in between, it is there still.
    """
    from pyarrow.fs import FileType, copy_files

    system, inner = _open(path)
    if system.get_file_info(inner).type != FileType.Directory:
        return False
    _, place = _open(target)
    system.create_dir(place.rpartition("/")[0], recursive=True)
    if "://" in path:
        copy_files(inner, place, source_filesystem=system, destination_filesystem=system)
        remove_folder(path)
    else:
        system.move(inner, place)
    return True


def _open(path: str) -> "tuple[FileSystem, str]":
    from pyarrow.fs import FileSystem, LocalFileSystem

    return FileSystem.from_uri(path) if "://" in path else (LocalFileSystem(), str(Path(path)))
