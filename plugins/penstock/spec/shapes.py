"""Holds YAML data against a pydantic model, and says in plain words where it does not fit."""

import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock.spec.documents import Document
from penstock.spec.faults import Fault, YamlPath, path_text, shorten, suggestion

_Spec = TypeVar("_Spec", bound=BaseModel)
_Words = tuple[str, str]  # what is wrong, what to write instead


@dataclass(frozen=True)
class _Misfit:
    """One of pydantic's errors, its place in the file, and the model of the whole file."""

    detail: ErrorDetails
    place: YamlPath
    model: type[BaseModel]

    @property
    def value(self) -> Any:
        return self.detail["input"]

    @property
    def context(self) -> dict[str, Any]:
        return self.detail.get("ctx", {})


_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


@dataclass(frozen=True)
class Fit(Generic[_Spec]):
    """Data as a model (None where it does not fit), with the faults.

    `unknown` are the places of fields that the model does not have, `misfits` those of all other faults.
    """

    spec: _Spec | None
    faults: tuple[Fault, ...] = ()
    unknown: tuple[YamlPath, ...] = ()
    misfits: tuple[YamlPath, ...] = ()


def fit(document: Document, data: Any, model: type[_Spec]) -> Fit[_Spec]:
    """Holds the data of a document against a model."""
    if not isinstance(data, dict):
        message = f"is {_kind(data)}, not a mapping"
        return Fit(None, (document.fault((), message, "write `field: value` lines"),), (), ((),))
    try:
        return Fit(model.model_validate(data))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    places = [_place(detail["loc"]) for detail in details]
    faults = [_fault(document, detail, place, model) for detail, place in zip(details, places, strict=True)]
    unknown = [detail["type"] == "extra_forbidden" for detail in details]
    return Fit(
        None,
        tuple(_without_echoes(details, faults)),
        tuple(place for place, is_unknown in zip(places, unknown, strict=True) if is_unknown),
        tuple(place for place, is_unknown in zip(places, unknown, strict=True) if not is_unknown),
    )


def known_fields(model: type[BaseModel], path: YamlPath) -> list[str]:
    """The names of the fields that may stand at a place of a file."""
    found = _annotation(model, path)
    return [field.alias or name for name, field in found.model_fields.items()] if _is_model(found) else []


def _place(loc: tuple[int | str, ...]) -> YamlPath:
    return tuple(part for part in loc if part != "[key]")


def _fault(document: Document, detail: ErrorDetails, place: YamlPath, model: type[BaseModel]) -> Fault:
    translate = _TRANSLATIONS.get(detail["type"], _as_pydantic_says)
    message, remedy = translate(_Misfit(detail, place, model))
    filled, written = detail["input"], _value_at(document.data, place)
    is_key = "[key]" in detail["loc"]
    if isinstance(filled, str) and isinstance(written, str) and filled != written and not is_key:
        # what a variable holds may be a secret
        message, remedy = message.replace(filled, written), remedy.replace(filled, written)
    return document.fault(place, message, remedy)


def _value_at(data: Any, path: YamlPath) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _without_echoes(details: Iterable[ErrorDetails], faults: list[Fault]) -> Iterable[Fault]:
    """The faults but for the missing fields that an unknown one beside them was meant to be."""
    meant = {
        (detail["loc"][:-1], fault.remedy.removeprefix("write ").partition(" or ")[0])
        for detail, fault in zip(details, faults, strict=True)
        if detail["type"] == "extra_forbidden"
    }
    for detail, fault in zip(details, faults, strict=True):
        if detail["type"] != "missing" or (detail["loc"][:-1], detail["loc"][-1]) not in meant:
            yield fault


def _missing(misfit: _Misfit) -> _Words:
    name = misfit.place[-1]
    if isinstance(name, int):
        return "has too few values", "write two values: [low, high]"
    parent = _annotation(misfit.model, misfit.place[:-1])
    meaning = ""
    if _is_model(parent):
        fields = {field.alias or key: field for key, field in parent.model_fields.items()}
        meaning = fields[name].description or "" if name in fields else ""
    where = f"under {path_text(misfit.place[:-1])}" if len(misfit.place) > 1 else "at the top level"
    return f"{name} is missing", f"add `{name}: …` {where}{f' ({meaning})' if meaning else ''}"


def _unknown(misfit: _Misfit) -> _Words:
    name = str(misfit.place[-1])
    return f"unknown field {name!r}", suggestion(name, known_fields(misfit.model, misfit.place[:-1]), "fields here")


def _not_one_of(misfit: _Misfit) -> _Words:
    expected = str(misfit.context["expected"]).replace("'", "").replace(" or ", ", ")
    choices = expected.split(", ")
    wrong = misfit.value
    hint = suggestion(wrong, choices, "values") if isinstance(wrong, str) else f"known values: {', '.join(choices)}"
    return f"is {_shown(wrong)}, not one of {', '.join(choices)}", hint


def _not_text(misfit: _Misfit) -> _Words:
    value = misfit.value
    if value is None:
        return "is empty", "write its value behind the colon"
    if isinstance(value, dict | list):
        return f"is {_kind(value)}, not text", "write one text"
    return f"is {_kind(value)} ({_shown(value)}), not text", f'write it in quotes: "{value}"'


def _not_a(what: str, example: str) -> Callable[[_Misfit], _Words]:
    def translate(misfit: _Misfit) -> _Words:
        value = misfit.value
        found = "empty" if value is None else _shown(value)
        return f"is {found}, not {what}", f"write {example}"

    return translate


def _no_name(misfit: _Misfit) -> _Words:
    value = str(misfit.value)
    if r"\." in str(misfit.context["pattern"]):
        return f"{value!r} is no dotted name of a function", "write module.function, from the project's folder"
    proper = "".join(c if c.isascii() and c.isalnum() else "_" for c in value.lower()).strip("_").lstrip("0123456789_")
    rule = "lower-case letters, digits and _, beginning with a letter"
    return f"{value!r} is no name", f"write {rule}{f', such as {proper}' if proper else ''}"


def _too_few(misfit: _Misfit) -> _Words:
    return "is empty", f"give at least {misfit.context['min_length']}"


def _too_many(misfit: _Misfit) -> _Words:
    return f"has {misfit.context['actual_length']} values", f"give {misfit.context['max_length']}"


def _out_of_bounds(misfit: _Misfit) -> _Words:
    name, bound = next((key, value) for key, value in misfit.context.items() if key in _BOUNDS)
    return f"is {_shown(misfit.value)}, out of bounds", f"write a number of {_BOUNDS[name]} {bound}"


def _as_validator_says(misfit: _Misfit) -> _Words:
    message, separator, remedy = str(misfit.context["error"]).partition(": ")
    return (message, remedy) if separator else (message, "correct it")


def _as_pydantic_says(misfit: _Misfit) -> _Words:
    return f"is {_shown(misfit.value)}: {misfit.detail['msg']}", "correct it"


_LIST = _not_a("a list", "a list, such as [first, second], or one `- item` a line")
_MAPPING = _not_a("a mapping", "its fields below it, indented")
_WHOLE = _not_a("a whole number", "a whole number, such as 5")
_NUMBER = _not_a("a number", "a number, such as 0.5")
_TRUTH = _not_a("true or false", "true or false")
_TRANSLATIONS: dict[str, Callable[[_Misfit], _Words]] = {
    "missing": _missing, "extra_forbidden": _unknown, "enum": _not_one_of, "literal_error": _not_one_of,
    "string_type": _not_text, "list_type": _LIST, "tuple_type": _LIST, "dict_type": _MAPPING, "model_type": _MAPPING,
    "model_attributes_type": _MAPPING, "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "bool_type": _TRUTH, "bool_parsing": _TRUTH,
    "string_pattern_mismatch": _no_name, "too_short": _too_few, "too_long": _too_many,
    "greater_than": _out_of_bounds, "greater_than_equal": _out_of_bounds, "less_than": _out_of_bounds,
    "less_than_equal": _out_of_bounds, "value_error": _as_validator_says,
}  # fmt: skip


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _shown(value: Any) -> str:
    return _kind(value) if isinstance(value, dict | list) else shorten(repr(value), 60)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _annotation(model: type[BaseModel], path: YamlPath) -> Any:
    """The type that stands at a place; None where the path leaves what is known."""
    found: Any = model
    for part in path:
        if _is_model(found):
            fields = {field.alias or name: field for name, field in found.model_fields.items()}
            found = _plain(fields[str(part)].annotation) if part in fields else None
        elif get_origin(found) is dict:
            found = _plain(get_args(found)[1])
        elif get_origin(found) in (list, tuple):
            found = _plain(get_args(found)[0])
        else:
            return None
    return found


def _plain(annotation: Any) -> Any:
    """A type without Annotated and None."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) in (Union, types.UnionType):
        return _plain(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation
