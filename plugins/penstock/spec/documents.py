"""A YAML file with the line of every value.

PyYAML's C parser composes the nodes, whose marks give the lines, and constructs plain values from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from penstock.spec.faults import Fault, Severity, YamlPath, path_text

MOST_VALUES = 50_000
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_EMPTY = ("is empty", "write its fields: docs/reference/ lists them")


@dataclass
class Document:
    """A YAML file's content (`data`; None where it cannot be read), its lines and what is wrong with it."""

    file: Path
    data: Any = None
    lines: dict[YamlPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: YamlPath) -> int:
        """The line of a value, or of the closest part of the file that it would belong to."""
        for length in range(len(path), -1, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return 1

    def fault(self, path: YamlPath, message: str, remedy: str, severity: Severity = Severity.ERROR) -> Fault:
        """A fault at a place of this file."""
        return Fault(str(self.file), self.line(path), path_text(path), message, remedy, severity)


def read_document(file: Path) -> Document:
    """Reads a YAML file. What is wrong with it as YAML is in `faults`, never raised."""
    document = Document(file)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        _refuse(document, 1, "no such file", "create it, or correct its name where it is referred to")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        _refuse(document, line, f"is not UTF-8: {error.reason}", "save it as UTF-8")
    except OSError as error:
        _refuse(document, 1, f"cannot be read: {error.strerror}", "make it a readable file")
    else:
        _parse(document, text)
    return document


def _refuse(document: Document, line: int, message: str, remedy: str) -> None:
    document.faults.append(Fault(str(document.file), line, "", message, remedy))


def _parse(document: Document, text: str) -> None:
    loader = yaml.CSafeLoader(text)
    root: yaml.Node | None = None
    try:
        root = loader.get_single_node()
        if root is None:
            _refuse(document, 1, *_EMPTY)
            return
        if _walk(document, root):
            document.data = loader.construct_document(root)
            if document.data is None:
                _refuse(document, 1, *_EMPTY)
    except yaml.MarkedYAMLError as error:
        _refuse(document, _error_line(error), *_explain(error, text))
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        _refuse(document, line, f"holds a character that YAML does not allow: {error.reason}", "remove it")
    except yaml.YAMLError as error:
        _refuse(document, 1, f"is no valid YAML: {error}", "correct it")
    except ValueError as error:  # a date such as 2013-02-30
        _refuse(document, _bad_scalar_line(root), f"holds an impossible value: {error}", "put it in quotes")
    finally:
        loader.dispose()


def _walk(document: Document, root: yaml.Node) -> bool:
    """Notes the lines of all values, and faults of keys. False where the file is not to be constructed."""
    stack: list[tuple[yaml.Node, YamlPath]] = [(root, ())]
    document.lines[()] = root.start_mark.line + 1
    visited = 0
    while stack:
        node, path = stack.pop()
        visited += 1
        if visited > MOST_VALUES or len(path) > 100:
            # an alias that holds itself, or aliases of aliases
            _refuse(document, 1, "is too large or deep, or an alias holds itself", "write it without aliases")
            return False
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                document.lines[(*path, index)] = item.start_mark.line + 1
                stack.append((item, (*path, index)))
        elif isinstance(node, yaml.MappingNode):
            stack.extend(_entries(document, node, path))
    return True


def _entries(document: Document, node: yaml.MappingNode, path: YamlPath) -> Iterator[tuple[yaml.Node, YamlPath]]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
            document.lines.setdefault((*path, str(key.value)), line)
            document.faults.append(_key_fault(document, key, path))
            if not isinstance(key, yaml.ScalarNode):
                continue
            key.tag = _TEXT  # as it was meant: one fault is enough
        name = str(key.value)
        if name in seen:
            document.faults.append(
                Fault(
                    str(document.file),
                    line,
                    path_text((*path, name)),
                    f"{name!r} stands twice, first in line {seen[name]}: only one of them would count",
                    "remove or rename one",
                )
            )
        seen[name] = document.lines[(*path, name)] = line
        yield value, (*path, name)


def _key_fault(document: Document, key: yaml.Node, path: YamlPath) -> Fault:
    kind = key.tag.rpartition(":")[2]
    return Fault(
        str(document.file), key.start_mark.line + 1, path_text((*path, str(key.value))),
        f"YAML reads the key {key.value} as {kind}, not as text", f'write it in quotes: "{key.value}"',
    )  # fmt: skip


def _error_line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark is not None else 1


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[str, str]:
    line = _error_line(error)
    lines = text.splitlines()
    written = lines[line - 1].strip() if line <= len(lines) else "the end of the file"
    problem = str(error.problem or error.context or "it cannot be parsed")
    if "cannot start any token" in problem and "\t" in (lines[line - 1] if line <= len(lines) else ""):
        return "is no valid YAML: the line is indented by a tab", "indent with spaces"
    if isinstance(error, yaml.constructor.ConstructorError):
        return f"is no plain YAML: {problem}", "write plain text, numbers, lists and mappings"
    opened = f" ({error.context} in line {error.context_mark.line + 1})" if error.context_mark else ""
    return (
        f"is no valid YAML: {problem}{opened}, at: {written}",
        "correct the indentation, or put a value that holds `: `, `#`, `{` or `%` in quotes",
    )


def _bad_scalar_line(root: yaml.Node | None) -> int:
    constructor = yaml.constructor.SafeConstructor()
    stack = [root] if root is not None else []
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.ScalarNode):
            try:
                constructor.construct_object(node)
            except ValueError:
                return int(node.start_mark.line) + 1
        elif isinstance(node, yaml.MappingNode):
            stack.extend(part for pair in node.value for part in pair)
        else:
            stack.extend(node.value)
    return 1
