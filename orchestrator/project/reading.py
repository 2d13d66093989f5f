"""One TOML file → one pydantic model, with every mistake as a `Problem` that knows its line."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.project.positions import KeyPath, line_at, lines_of
from orchestrator.project.problems import Problem, ProjectError, nearest

ModelT = TypeVar("ModelT", bound=BaseModel)

_WORDS = {
    "missing": "is required",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must look like {pattern}",
}


@dataclass(frozen=True)
class Document(Generic[ModelT]):
    """A valid file: its model, and the lines of its keys for whoever finds more to say about them."""

    file: Path
    model: ModelT
    lines: Mapping[KeyPath, int]

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.file, line_at(self.lines, path), message)


def read_toml(file: Path, model: type[ModelT]) -> Document[ModelT]:
    """Reads and validates. Raises `ProjectError` with all of the file's mistakes."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProjectError([Problem(file, 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ProjectError([Problem(file, 0, "is not UTF-8 text; save it as UTF-8")]) from error
    try:
        data = _tuples(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ProjectError([_syntax(file, text, error)]) from error
    lines = lines_of(text)
    try:
        return Document(file, model.model_validate(data), lines)
    except ValidationError as error:
        problems = [_problem(file, lines, model, data, detail) for detail in error.errors()]
        raise ProjectError(problems) from error


def dotted(path: KeyPath) -> str:
    """`suite.heldout`: the line says which suite is meant."""
    return ".".join(str(step) for step in path if isinstance(step, str))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _syntax(file: Path, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    message = str(error)
    place = re.search(r"\(at line (\d+), column \d+\)", message)
    line = int(place[1]) if place else text.count("\n") + 1
    return Problem(file, line, f"is not valid TOML: {message.split(' (at ')[0]}; texts need quotes, tables [brackets]")


def _problem(
    file: Path, lines: Mapping[KeyPath, int], model: type[BaseModel], data: Any, detail: ErrorDetails
) -> Problem:
    path: KeyPath = detail["loc"]
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    name = dotted(path)
    if kind == "extra_forbidden":
        table = dotted(path[:-1])
        prefix = f"{table}." if table else ""
        message = f"{name} is not a key{nearest(str(path[-1]), _keys(model, path[:-1]), prefix)}"
    elif kind == "value_error":
        message = f"{name} {context['error']} (got {given!r})"
    elif kind == "tuple_type":
        remedy = f"; write [[{name}]] above each" if isinstance(given, dict) else ""
        message = f"{name} must be a list{remedy}" + ("" if remedy else f" (got {given!r})")
    elif kind == "model_type" and isinstance(given, tuple):
        message = f"{name} must be one table; write [{name}]"
    elif kind == "missing":
        message = f"{name} is required{_hint(path)}"
    else:
        words = _WORDS.get(kind, detail["msg"]).format(**context)
        message = f"{name} {words} (got {given!r})"
    return Problem(file, line_at(lines, path), message)


def _hint(path: KeyPath) -> str:
    hints = {
        "schema": ': write "schema = 1" at the top',
        "suite": ": a project needs at least one [[suite]] that judges it",
    }
    return hints.get(dotted(path), "")


def _keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at `path` may have."""
    for step in path:
        field = next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)
        inner = _model_in(field.annotation) if field else None
        model = inner or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model), None)
