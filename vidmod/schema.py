"""Checking documents against the JSON Schemas that vidmod publishes in `vidmod/schemas/`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import jsonschema_rs

from vidmod.errors import UsageError

Document = dict[str, Any]
_MAX_VALUE_CHARACTERS = 60


@functools.cache
def _validator(name: str) -> jsonschema_rs.Validator:
    text = resources.files("vidmod").joinpath("schemas", f"{name}.json").read_text("utf-8")
    return jsonschema_rs.validator_for(json.loads(text))


def check(document: object, schema: str, origin: str, error: Callable[[str], UsageError]) -> None:
    """Check `document` against the published schema of that name.

    Args:
        document: What was parsed from JSON or TOML.
        schema: `timeline`, `policy` or `model`.
        origin: The file's name, for the message.
        error: The error class to raise.

    Raises:
        UsageError: Of the given class; the message gives the path to the first wrong field.
    """
    try:
        first = next(iter(_validator(schema).iter_errors(document)), None)
    except UnicodeEncodeError as exc:
        # JSON can escape half of a surrogate pair, and Python reads it.
        raise error(f"{origin}: holds text that is not Unicode ({exc.object[:_MAX_VALUE_CHARACTERS]!r}).") from exc
    if first is not None:
        raise error(f"{origin}: {_where(first.instance_path)}{_what(first.message)}")


def _where(path: list[str | int]) -> str:
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{dotted.removeprefix('.')}: " if path else ""


def _what(message: str) -> str:
    """The validator's message with the offending value cut to a readable length."""
    if len(message) <= 4 * _MAX_VALUE_CHARACTERS:
        return message
    return f"{message[:_MAX_VALUE_CHARACTERS]} … {message[-2 * _MAX_VALUE_CHARACTERS :]}"
