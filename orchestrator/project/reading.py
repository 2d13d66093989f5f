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

from orchestrator.project.lines import KeyPath, line_at, lines_of
from orchestrator.project.problems import Problem, ProjectError, nearest

ModelT = TypeVar("ModelT", bound=BaseModel)

_WORDS = {  # where pydantic's own words speak of Python
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_HINTS = {"schema": ': write "schema = 1" at the top', "suite": ": at least one [[suite]] has to judge the project"}


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
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        data = _tuples(tomllib.loads(text))
    except OSError as error:
        raise ProjectError([Problem(file, 0, f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ProjectError([Problem(file, 0, "is not UTF-8 text; save it as UTF-8")]) from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"(.*) \(at line (\d+), ", str(error))
        what, line = (place[1], int(place[2])) if place else (str(error), text.count("\n") + 1)
        raise ProjectError([Problem(file, line, f"is not valid TOML: {what}; texts need quotes")]) from error
    lines = lines_of(text)
    try:
        return Document(file, model.model_validate(data), lines)
    except ValidationError as error:
        details = error.errors()
        raise ProjectError(
            Problem(file, line_at(lines, one["loc"]), _message(model, one)) for one in details
        ) from error


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _dotted(path: KeyPath) -> str:
    """`suite.heldout`: the line says which suite is meant."""
    return ".".join(step for step in path if isinstance(step, str))


def _message(model: type[BaseModel], detail: ErrorDetails) -> str:
    path: KeyPath = detail["loc"]
    kind, given, name = detail["type"], detail["input"], _dotted(path)
    if kind == "extra_forbidden":
        table = _dotted(path[:-1])
        return f"{name} is not a key{nearest(str(path[-1]), _keys(model, path[:-1]), f'{table}.' if table else '')}"
    if kind == "missing":
        return f"{name} is required{_HINTS.get(name, '')}"
    if kind == "model_type" and isinstance(given, tuple):
        return f"{name} must be one table; write [{name}]"
    if kind == "tuple_type":
        return f"{name} must be a list" + (f"; write [[{name}]] above each" if isinstance(given, dict) else "")
    words = str(detail["ctx"]["error"]) if kind == "value_error" else _WORDS.get(kind, detail["msg"])
    return f"{name} {words.replace('Input should be', 'must be')} (got {given!r})"


def _keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at `path` may have."""
    for step in path:
        field = next((field for name, field in model.model_fields.items() if step in (name, field.alias)), None)
        model = (field and _model_in(field.annotation)) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
