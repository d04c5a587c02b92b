"""What a project's Python files define at their top level, read from the syntax tree: nothing is imported."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from penstock.errors import SpecError


class PythonFileError(SpecError):
    """A Python file that cannot be parsed; `line` and `message` say where and why."""

    def __init__(self, file: Path, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True)
class Definition:
    """A name at the top level; `arguments` is None where the syntax tree does not show a function."""

    line: int
    arguments: ast.arguments | None = None
    is_async: bool = False

    def takes(self, count: int) -> bool:
        """Whether it can be called with `count` positional arguments, as far as one can see."""
        if self.arguments is None:
            return True
        positional = [*self.arguments.posonlyargs, *self.arguments.args]
        required = len(positional) - len(self.arguments.defaults)
        most = len(positional) if self.arguments.vararg is None else count
        needs_keywords = any(default is None for default in self.arguments.kw_defaults)
        return required <= count <= most and not needs_keywords


@dataclass(frozen=True)
class PythonFile:
    """A file's top-level names; `open_ended` where it imports `*`."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    open_ended: bool = False


def read_python_file(file: Path) -> PythonFile:
    """What a file defines. Raises PythonFileError where it is no valid Python."""
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _read(file: Path, modified: int) -> PythonFile:
    del modified  # part of the key: a changed file is read again
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise PythonFileError(file, error.lineno or 1, f"is no valid Python: {error.msg}") from error
    except ValueError as error:
        raise PythonFileError(file, 1, f"is no valid Python: {error}") from error
    definitions: dict[str, Definition] = {}
    open_ended = False
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            open_ended |= any(alias.name == "*" for alias in node.names)
        definitions.update(_definitions(node))
    return PythonFile(definitions, open_ended)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of the top level, those below if, try and with too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _definitions(node: ast.stmt) -> Iterator[tuple[str, Definition]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        # a decorator may change what the function takes
        arguments = None if node.decorator_list else node.args
        yield node.name, Definition(node.lineno, arguments, isinstance(node, ast.AsyncFunctionDef))
    elif isinstance(node, ast.ClassDef):
        yield node.name, Definition(node.lineno)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], Definition(node.lineno)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, Definition(node.lineno)
