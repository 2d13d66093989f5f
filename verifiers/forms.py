"""The forms in which people write a project's values. Sizes become bytes and durations seconds here, at the border."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

Item = TypeVar("Item")


class Section(BaseModel):
    """Unknown keys are mistakes: a misspelt `heldout` would publish what was to be hidden, and to ignore a key of a
    later version would judge something else than was meant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def form(pattern: str, words: str) -> AfterValidator:
    """A text of this form; `words` say what is wrong with any other."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def _quantity(units: Mapping[str, int], words: str) -> BeforeValidator:
    """A number with one of the units, which is asked for: 4 may mean four of anything."""
    written = re.compile(rf"(\d+(?:\.\d+)?) ?([{''.join(units)}])")

    def read(value: object) -> float:
        match = written.fullmatch(value) if isinstance(value, str) else None
        if match is None or float(match[1]) == 0:
            raise ValueError(words)
        return float(match[1]) * units[match[2]]

    return BeforeValidator(read)


_BYTES = _quantity({"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}, 'must be a size like "4G" or "512M"')
_TIME = _quantity({"s": 1, "m": 60, "h": 3600, "d": 86400}, 'must be a duration like "10s", "5m" or "2h"')
Size = Annotated[int, BeforeValidator(int), _BYTES]  # the last one is asked first
Seconds = Annotated[float, _TIME]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Listed = Annotated[tuple[Item, ...], Strict(False)]  # a list of the file, frozen; its items stay strict
Strings = Listed[Text]
Name = Annotated[str, form(r"[a-z0-9][a-z0-9_-]*", "must be of lower case letters, digits, - and _")]
Inside = Annotated[str, form(r"(?!/|(.*/)?\.\.(/|$)).*", "must be a path inside its folder, without ..")]
