"""A project's own modules: imported anew as soon as a file of theirs changed, and their texts.

In a notebook or a long-lived worker the files change while the process lives. What is recorded of a run (the hash of a
feature table's definition, the digest of a training set's) is of the files as they are, so those are what must run.
"""

import ast
import hashlib
import importlib
import sys
import threading
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path

from penstock.spec.loading import LoadedProject

_PREFIX = "penstock_project_"
_lock = threading.RLock()
_imported: dict[str, dict[Path, str]] = {}
"""By package, the files that were imported, each with the digest of the text that runs."""


def import_project_module(project: LoadedProject, name: str) -> types.ModuleType:
    """The module `name` of a project, as its files are now.

    The project's folder is imported as a package of its own, so that two projects (or two teams' bundles)
    can have modules of one name, and modules can import each other relatively. Where any file of it changed since it
    was imported, all its modules are imported anew: functions that are running stay as they were.
    Raises whatever the module's import raises.
    """
    package = _package(project)
    with _lock:
        if package not in sys.modules or _has_changed(package):
            _start_anew(package, project.folder)
        return importlib.import_module(f"{package}.{name}")


def module_texts(project: LoadedProject, function: str) -> dict[str, str]:
    """The texts, by file, of a function's module and of the project's modules that it imports, and so on."""
    waiting, found = [function.rpartition(".")[0]], dict[str, str]()
    while waiting:
        name = waiting.pop()
        file = _file(project, name)
        if file is None or (place := file.relative_to(project.folder).as_posix()) in found:
            continue
        found[place] = file.read_text(encoding="utf-8")
        package = name.split(".") if file.stem == "__init__" else name.split(".")[:-1]
        waiting += relative_imports(_tree(found[place]), package)
    return found


def module_text(project: LoadedProject, function: str) -> str | None:
    """The text of a function's module; None where there is none."""
    file = _file(project, function.rpartition(".")[0])
    return None if file is None else file.read_text(encoding="utf-8")


def _file(project: LoadedProject, module: str) -> Path | None:
    place = project.folder / module.replace(".", "/")
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _tree(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:  # it fails where it is imported
        return ast.Module([], [])


def relative_imports(tree: ast.AST, package: Sequence[str]) -> list[str]:
    """The modules that a module of this package may import relatively."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(package) + 1:
            parts = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            base = ".".join(part for part in parts if part)
            found += [base, *(f"{base}.{item.name}".lstrip(".") for item in node.names)]
    return [name for name in found if name]


class _Loader(SourceFileLoader):
    """Compiles the file as it is, and notes its digest.

    Python's bytecode cache would take an edit of the same second and size for none.
    """

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(f"{path}: bytecode of a project's module is neither read nor written")

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        _imported[self.name.partition(".")[0]][Path(path)] = _digest(data)
        return data

    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        # a module that is sent to a Spark server goes with its loader, and that server need not have Penstock
        module.__loader__ = SourceFileLoader(self.name, self.path)
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__


class _Finder:
    """Finds the modules of projects' packages, for `_Loader`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(_PREFIX) or path is None:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(found.loader.name, found.loader.path)
        return found


def _start_anew(package: str, folder: Path) -> None:
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    _imported[package] = {}
    made = types.ModuleType(package)
    made.__path__ = [str(folder)]
    sys.modules[package] = made


def _has_changed(package: str) -> bool:
    return any(not file.is_file() or _digest(file.read_bytes()) != seen for file, seen in _imported[package].items())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _package(project: LoadedProject) -> str:
    return f"{_PREFIX}{project.name}_{_digest(str(project.folder.resolve()).encode())[:8]}"
