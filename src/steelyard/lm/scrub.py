"""Texts without the keys that a request carried."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, unquote

__all__ = ["SECRET_PARAMETERS", "scrub", "secrets_of"]

SECRET_PARAMETERS = frozenset(
    {"key", "api_key", "api-key", "apikey", "access_token", "token", "sig", "signature"}
)
_SECRET_HEADERS = frozenset(
    {b"authorization", b"proxy-authorization", b"api-key", b"x-api-key", b"x-goog-api-key", b"cookie"}
)
_SHORTEST = 6  # "none" and "local" are no secrets, and replacing them would spoil texts

_USERINFO = re.compile(r"://[^/?#\s'\"]*@")
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_OPENAI_KEY = re.compile(r"\bsk-[\w-]{6,}")


def secrets_of(request: Any) -> frozenset[str]:
    """The keys that an `httpx2` or `httpx` request carries, in headers and address."""
    found: set[str] = set()
    for name, raw in request.headers.raw:
        if name.lower() in _SECRET_HEADERS:
            value: str = raw.decode("latin-1")
            scheme, _, rest = value.partition(" ")
            found |= {value, rest} if rest and scheme.isalpha() else {value}
            if scheme.lower() == "basic":
                found.add(_password(rest))
    url = request.url
    if password := url.password:
        found |= {password, unquote(password)}
    if query := url.query:
        pairs = parse_qsl(query.decode("ascii", "replace"))
        found |= {v for k, v in pairs if k.lower() in SECRET_PARAMETERS}
    return frozenset(v for v in found if len(v) >= _SHORTEST)


def _password(basic: str) -> str:
    try:
        return base64.b64decode(basic, validate=True).decode("utf-8", "replace").partition(":")[2]
    except ValueError:
        return ""


def scrub(text: str, secrets: Collection[str] = ()) -> str:
    """The text with keys replaced by `***`: the given ones, and whatever looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _USERINFO.sub("://***@", text) if "@" in text else text
    return _OPENAI_KEY.sub("***", _BEARER.sub(r"\1 ***", text))
