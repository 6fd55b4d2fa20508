"""The key of a request: what must be equal for a recording to be its answer."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, cast
from urllib.parse import parse_qsl

from steelyard.core.canonical import canonical, digest, digest_bytes
from steelyard.core.errors import InvalidValue
from steelyard.lm.scrub import SECRET_PARAMETERS

__all__ = ["key_of_call", "key_of_request"]

_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


def key_of_request(
    *, method: str, target: str, content_type: str, body: bytes, identity: str | None, host: str | None
) -> str:
    """Hex digest of what a request asks, whoever is asked.

    Args:
        method: HTTP method.
        target: Path and query; query parameters that carry keys are left out, the order of the others stays.
        content_type: The request's own.
        body: Its body. JSON counts by value (RFC 8785), anything else by its bytes.
        identity: Digest of the local model that is asked: the body's `model` then does not count, because a
            local server answers to every name.
        host: Host name, where it means something (no model API); never the port.
    """
    path, _, query = target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    asked = [[k, v] for k, v in pairs if k.lower() not in SECRET_PARAMETERS]
    parts = [method.upper(), path, asked, _body(content_type, body, identity), identity, host]
    try:
        return digest(parts).removeprefix("sha256:")
    except InvalidValue:  # a lone surrogate in the address
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def key_of_call(request: str, *, trial: int, n: int) -> str:
    """Hex digest of the nth (0-based) identical request in one trial of an example."""
    return digest(["steelyard-call-1", request, trial, n]).removeprefix("sha256:")


def _body(content_type: str, body: bytes, identity: str | None) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            value = json.loads(body, object_pairs_hook=_object, parse_constant=_refuse)
            if identity is not None and isinstance(value, dict):
                cast("dict[str, Any]", value).pop("model", None)
            return "json:" + digest_bytes(canonical(value))
        except (ValueError, RecursionError):  # no JSON, or JSON without a canonical form (InvalidValue)
            return "bytes:" + digest_bytes(body)
    if kind.startswith("multipart/") and (found := _BOUNDARY.search(content_type)):
        body = body.replace(found[1].encode("latin-1", "replace"), b"boundary")  # a random text each time
    return f"bytes:{kind}:" + digest_bytes(body)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a key twice: which one counts is the receiver's choice")
    return out


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
