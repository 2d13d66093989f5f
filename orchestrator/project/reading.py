"""One TOML file → one pydantic model, with every mistake as a `Problem` that knows its line."""

from __future__ import annotations

import re
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.project.lines import KeyPath, line_of
from orchestrator.project.problems import Problem, nearest

ModelT = TypeVar("ModelT", bound=BaseModel)

_HINTS: Final = {"schema": ': write "schema = 1" at the top', "suite": ": write at least one [[suite]]"}


@dataclass(frozen=True)
class Document(Generic[ModelT]):
    """A valid file, for whoever finds more to say about its keys."""

    file: Path
    text: str
    model: ModelT

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.file, line_of(self.text, path), message)


def read_toml(file: Path, model: type[ModelT], found: list[Problem]) -> Document[ModelT] | None:
    """Reads and validates. Adds the file's mistakes to `found`; None if there are any."""
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        return Document(file, text, model.model_validate(_tuples(tomllib.loads(text))))
    except FileNotFoundError:
        found.append(Problem(file, 0, "is missing; docs/project-authors.md says what belongs there"))
    except (OSError, UnicodeDecodeError) as error:
        found.append(Problem(file, 0, f"cannot be read as UTF-8 text: {error}"))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"(.*) \(at line (\d+), ", str(error))
        what, line = (place[1], int(place[2])) if place else (str(error), text.count("\n") + 1)
        found.append(Problem(file, line, f"is not valid TOML: {what}; texts need quotes"))
    except ValidationError as error:
        found += (Problem(file, line_of(text, one["loc"]), _message(model, one)) for one in error.errors())
    return None


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
        known = nearest(str(path[-1]), _keys(model, path[:-1]), f"{table}." if table else "")
        return f"{name} is not a key of this version{known}"
    if kind == "missing":
        return f"{name} is required{_HINTS.get(name, '')}"
    if kind in ("model_type", "dict_type"):
        return f"{name} must be one table; write [{name}]"
    if kind == "tuple_type":
        return f"{name} must be a list" + (f"; write [[{name}]] above each" if isinstance(given, dict) else "")
    words = str(detail["ctx"]["error"]) if kind == "value_error" else re.sub(r"^\w+ should", "must", detail["msg"])
    version = " in this version" if kind == "literal_error" else ""
    return f"{name} {words}{version} (got {given!r})"


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
