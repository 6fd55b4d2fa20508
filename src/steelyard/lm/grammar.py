"""A JSON schema as a grammar for the local engine, without white space that nobody asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

__all__ = ["spaced_json"]

_SPACING = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_NAMED = frozenset({"properties", "$defs"})
_PLAIN = frozenset({"$ref", "const", "description", "enum", "required", "title"}) | {
    f"{bound}{what}" for bound in ("min", "max") for what in ("imum", "Items", "Length")
}
_REGEX_BEYOND = re.compile(r"\(\?(?!:)|\\[1-9bBAZzkpP]")


def spaced_json(arguments: dict[str, Any]) -> dict[str, Any]:
    """The request with its JSON schema as a grammar that allows white space only as `json.dumps` writes it.

    The engine's own reading of a schema lets the model write new lines and indents, which take more than half
    of the tokens of a short answer. llguidance, built into the engine, reads the schema without them.
    It silently lets go of a schema that it cannot read, so a request whose schema uses more than the keywords
    known to work here is left as it is, and so is one with a grammar of its own.

    Args:
        arguments: Arguments of `chat.completions.create`; not changed.
    """
    extra = cast("dict[str, Any]", arguments.get("extra_body") or {})
    match arguments.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            pass
        case _:
            return arguments
    if "grammar" in extra or not schema or not _known(cast("dict[str, Any]", schema)):
        return arguments
    body = json.dumps({"x-guidance": _SPACING} | schema, ensure_ascii=False)
    kept = {k: v for k, v in arguments.items() if k != "response_format"}
    return kept | {"extra_body": extra | {"grammar": f"%llguidance {{}}\nstart: %json {body}"}}


def _known(schema: Any) -> bool:
    """Whether the grammar understands all of a schema."""
    if not isinstance(schema, Mapping):
        return False
    return all(_keyword_known(k, v) for k, v in cast("Mapping[str, Any]", schema).items())


def _keyword_known(keyword: str, value: Any) -> bool:
    if keyword in _PLAIN:
        return True
    if keyword == "type":
        return isinstance(value, str) and value in _TYPES
    if keyword in _NAMED:
        return isinstance(value, Mapping) and all(map(_known, cast("Mapping[str, Any]", value).values()))
    if keyword == "items":
        return _known(value)
    if keyword == "anyOf":
        return isinstance(value, list) and all(map(_known, cast("list[Any]", value)))
    if keyword == "additionalProperties":
        return isinstance(value, bool) or _known(value)
    if keyword == "pattern":
        return isinstance(value, str) and not _REGEX_BEYOND.search(value) and _compiles(value)
    return False


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
