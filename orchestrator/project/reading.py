"""One TOML file → one pydantic model, with every mistake said so that a person can mend it: file, line, remedy."""

import difflib
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]  # ("suite", 2, "heldout"): the same steps that lead through the parsed value
ModelT = TypeVar("ModelT", bound=BaseModel)

AUTHORS: Final = "docs/project-authors.md says what belongs there"
_HINTS: Final = {"schema": ': write "schema = 1" at the top', "suite": ": write at least one [[suite]]"}
# By how tomllib's message begins.
_REMEDIES: Final = {
    "Cannot": "a key or table stands once, and tables that repeat are all written [[name]]",
    "Expected": "write key = value, one a line, and numbers like 2000 or 2_000",
    "Unclosed": "close it",
}


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `line` counts from 1; 0 means that the file as a whole is meant."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class ConfigError(Exception):
    """What a person wrote cannot be used: every mistake that was found. Nothing was started."""

    kind = "config"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


def refuse(found: Iterable[Problem]) -> None:
    """Raises `ConfigError` if there are any."""
    if problems := tuple(found):
        raise ConfigError(problems)


def read_text(file: Path, found: list[Problem], remedy: str = AUTHORS) -> str | None:
    """A file's text. Adds to `found` what keeps it from being used, and then gives None."""
    line = 0
    try:
        if not file.is_file():  # which is not opened: a pipe would wait for ever
            words = "must be a file" if os.path.lexists(file) else f"is missing; {remedy}"
        elif (text := file.read_text(encoding="utf-8-sig")).strip():
            return text
        else:
            words = f"is empty; {remedy}"
    except UnicodeDecodeError as error:
        words = f"is not UTF-8 text: {error.reason}; save it as UTF-8"
        line = error.object.count(b"\n", 0, error.start) + 1
    except OSError as error:
        words = f"cannot be read: {error.strerror}"
    found.append(Problem(file, line, words))
    return None


def read_toml(file: Path, model: type[ModelT], found: list[Problem], remedy: str = AUTHORS) -> ModelT | None:
    """Reads and validates. Adds the file's mistakes to `found`; None if there are any."""
    if (text := read_text(file, found, remedy)) is None:
        return None
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"(.*) \(at line (\d+), ", str(error))
        what, line = (place[1], int(place[2])) if place else (str(error), text.count("\n") + 1)
        remedy = next((words for start, words in _REMEDIES.items() if what.startswith(start)), "texts need quotes")
        found.append(Problem(file, line, f"is not valid TOML: {what}; {remedy}"))
    except RecursionError:
        found.append(Problem(file, 0, "is nested too deeply"))
    except ValidationError as error:
        wrong = error.errors()
        # A list without valid items is said to be too short as well.
        inside = {one["loc"][:end] for one in wrong for end in range(len(one["loc"]))}
        told = (one for one in wrong if one["type"] != "too_short" or one["loc"] not in inside)
        found += (Problem(file, line_of(text, one["loc"]), _message(model, one)) for one in told)
    return None


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
        one = f"{path[-1]} = [{json.dumps(given, default=str)}]"
        return f"{name} must be a list; write " + (f"[[{name}]] above each" if isinstance(given, dict) else one)
    if kind == "too_short":
        return f"{name} must not be empty"
    words = str(detail["ctx"]["error"]) if kind == "value_error" else re.sub(r"^\w+ should", "must", detail["msg"])
    version = " in this version" if kind == "literal_error" else ""
    return f"{name} {words}{version} (got {given!r})"


def _keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at `path` may have."""
    for step in path:
        fields = model.model_fields  # whose only one is `root` where tables have names of their own
        field = fields.get("root") or next((one for name, one in fields.items() if step in (name, one.alias)), None)
        model = (field and _model_in(field.annotation)) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence: `; did you mean X?`, or what there is to choose from."""
    if close := difflib.get_close_matches(word, names := sorted(known), n=1, cutoff=0.6):
        return f"; did you mean {prefix}{close[0]}?"
    return f"; known: {', '.join(names)}" if names else ""


def line_of(text: str, path: KeyPath) -> int:
    """The line, counted from 1, where `path` of a valid TOML text begins. What is not written down has the line of what
    is around it: a missing key its table's.

    A text cut behind a statement is valid TOML, and so is one cut behind an element of an array and closed again. So
    the key stands on the first line behind the longest such beginning that lacks it.
    """
    lines = text.split("\n")
    while path and not _holds(tomllib.loads(text), path):
        path = path[:-1]
    first = 1
    for number in range(1, len(lines) + 1):
        for closing in ("", "\n]"):
            with suppress(tomllib.TOMLDecodeError):
                if _holds(tomllib.loads("\n".join(lines[:number]) + closing), path):
                    return first
                first = number + 1
    return first


def _holds(value: Any, path: KeyPath) -> bool:
    with suppress(LookupError, TypeError):
        for step in path:
            value = value[step]
        return True
    return False
