"""What a project's Python files import from outside of its folder: what else decides what they do.

Read from the syntax tree, so that nothing is run: what is imported by a name that is put together at run time is not
seen.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from penstock.spec.modules import relative_imports

_KNOWN = frozenset({*sys.stdlib_module_names, "penstock"})
_MISSING = "missing"


def imported_code(folder: Path) -> dict[str, str]:
    """By module or package that the files below a folder import from elsewhere, what it is.

    Of modules that lie anywhere on the path, a digest of the file, and so on for what they import; of installed
    packages their version. Python's own modules and Penstock do not count.
    """
    _distributions.cache_clear()  # in a notebook, packages come while the process lives
    found: dict[str, str] = {}
    waiting = [name for file in sorted(folder.rglob("*.py")) for name in _absolute_imports(_tree(file))]
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in _KNOWN:
            continue
        seen.add(name)
        found |= _described(name, waiting)
    return found


def _described(name: str, waiting: list[str]) -> dict[str, str]:
    """A name's own entries; what its files import is added to `waiting`."""
    top = name.partition(".")[0]
    spec = _spec(top)
    if spec is None:
        return {top: _MISSING}
    if _is_installed(spec):
        return {top: _version(top)}
    found = {}
    for module, file in _files(spec, name.split(".")):
        found[module] = hashlib.sha256(file.read_bytes()).hexdigest()
        if file.suffix == ".py":
            tree = _tree(file)
            package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
            waiting += [*_absolute_imports(tree), *relative_imports(tree, package)]
    return found


def _spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module that was put into sys.modules by hand
        return None


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a package lies where pip puts packages (or is built in): its version says what it is."""
    places = [spec.origin] if spec.has_location and spec.origin else [*(spec.submodule_search_locations or ())]
    return all(any(Path(place).is_relative_to(root) for root in _installed_roots()) for place in places)


def _installed_roots() -> set[str]:
    paths = sysconfig.get_paths()
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return {paths["purelib"], paths["platlib"], paths["stdlib"], *site.getsitepackages(), *user}


def _version(top: str) -> str:
    """The versions of the distributions that a package comes from."""
    try:
        return f"{top}=={importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        names = sorted(set(_distributions().get(top, ())))
        return ", ".join(f"{name}=={importlib.metadata.version(name)}" for name in names) or "of no distribution"


@cache
def _distributions() -> Mapping[str, list[str]]:
    """By package, the distributions with files of it; a quarter of a second."""
    return importlib.metadata.packages_distributions()


def _files(spec: ModuleSpec, parts: list[str]) -> Iterator[tuple[str, Path]]:
    """The files of a dotted name, from its top-level package on, as far as they exist."""
    if spec.has_location and spec.origin:
        yield parts[0], Path(spec.origin)
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    for count, part in enumerate(parts[1:], 2):
        name = ".".join(parts[:count])
        inner = [folder / part for folder in folders]
        files = (file for place in inner for file in (place / "__init__.py", place.with_suffix(".py")))
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            yield name, file
        folders = [file.parent] if file is not None and file.stem == "__init__" else inner if file is None else []


def _tree(file: Path) -> ast.AST:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # it fails where it is imported
        return ast.Module([], [])


def _absolute_imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{item.name}" for item in node.names)
