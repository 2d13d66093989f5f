"""From what `--model` says to a model. Adapters are imported here, when they are chosen: the two SDKs cost 1.8 s."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from genai_prices.data_snapshot import get_snapshot

from agents.models.base import Model
from agents.models.scripted import Scripted
from agents.models.wire import IDLE_S

OPEN: Final = "open"  # a seat for a person or another program: no model of ours
RECORDED: Final = "recorded"  # the project's recording: what a finished team did, done again
MINDLESS: Final = (OPEN, RECORDED)  # no model that can be asked
FORMS: Final = (
    "anthropic/NAME, openai/NAME, openai/NAME@http://…, scripted:FILE, recorded or open, each optionally as ROLE=…"
)
KEYS: Final = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
CHOICE: Final = re.compile(
    r"(?:([\w-]+)=)?((anthropic|openai)/([^@]+)(?:@(https?://.+))?|scripted:(.+)|recorded|open)", re.DOTALL
)
UNKNOWN_WINDOW: Final = 128_000  # tokens: a careful guess


class ModelUnknown(ValueError):
    """`--model` was given something that names no model (exit code 2)."""


class ModelNotReady(Exception):
    """No model can be reached (exit code 3). `remedies` are lines for the user."""

    remedies = (
        "set one, or name a local server:    --model openai/qwen3-coder@http://localhost:8000/v1",
        "see it all work without a key:      make demo",
    )


def parse(value: str) -> tuple[str, str]:
    """The role that one `--model` is for ("" is every one), and the model's id. Raises `ModelUnknown` in words."""
    found = CHOICE.fullmatch(value)
    if not found:
        raise ModelUnknown(f"--model {value}: not a model; give {FORMS}")
    return found[1] or "", found[2]


def account(id: str) -> str:
    """What a concurrency cap counts: a vendor, a server of one's own, or the script."""
    found = CHOICE.fullmatch(id)
    return (found and (found[5] or found[3])) or id.partition(":")[0]


def make(id: str, env: Mapping[str, str]) -> Model:
    """The model behind an id that `parse` let through. `open` and `recorded` have none.

    Reads the vendors' usual variables and ORCHESTRATOR_MODEL_IDLE_S (seconds of silence after which a stream is cut).
    Raises `ModelNotReady`, `ModelUnknown`, and `ScriptError` for a wrong script.
    """
    found = CHOICE.fullmatch(id)
    if not found or id in MINDLESS:
        raise ModelUnknown(f"{id}: not a model; give {FORMS}")
    vendor, name, url, script = found.group(3, 4, 5, 6)
    if script:
        return Scripted(Path(script))
    # A server of one's own often asks for no key; the SDK insists on a string.
    key = env.get(KEYS[vendor]) or ("none" if url else "")
    if not key and not any(env.get(one) for one in KEYS.values()):
        raise ModelNotReady(f"no model can be reached: {' and '.join(KEYS.values())} are not set")
    if not key:
        raise ModelNotReady(f"no {vendor} model can be reached: {KEYS[vendor]} is not set")
    base_url = url or env.get(f"{vendor.upper()}_BASE_URL")
    idle_s = float(env.get("ORCHESTRATOR_MODEL_IDLE_S", IDLE_S))
    if vendor == "anthropic":
        from agents.models.anthropic import connect
    else:
        from agents.models.openai import connect
    return connect(name, key, base_url, window(vendor, name), idle_s, compatible=bool(url))


def window(vendor: str, name: str) -> int:
    """The context window in tokens, from genai-prices; a careful guess for what it does not know."""
    try:
        return get_snapshot().find_provider_model(name, None, vendor, None)[1].context_window or UNKNOWN_WINDOW
    except LookupError:
        return UNKNOWN_WINDOW
