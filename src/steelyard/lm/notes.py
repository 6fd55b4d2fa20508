"""What a refused answer says to people: scrubbed, short, and with our own word added."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from steelyard.lm.scrub import scrub

__all__ = ["noted", "redirected", "said"]

_READ = 16_384  # bytes of an error body that are looked at


def said(body: bytes, secrets: Collection[str] = (), most: int = 200) -> str:
    """The beginning of a body in one line, without the request's keys."""
    words = " ".join(scrub(body[:_READ].decode("utf-8", "replace"), secrets).split())
    return words if len(words) <= most else words[:most] + "…"


def noted(body: bytes, note: str, secrets: Collection[str]) -> bytes:
    """An error's body without the request's keys, and with a note at the end of its message."""
    text = scrub(body.decode("utf-8", "replace"), secrets)
    if not note:
        return text.encode()
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        answer = cast("dict[str, Any]", value)
        error = answer.get("error")
        holder = cast("dict[str, Any]", error) if isinstance(error, dict) else answer
        for name in ("message", "detail", "error"):
            if isinstance(holder.get(name), str):
                holder[name] += note
                return json.dumps(answer).encode()
    if not text.strip():
        return json.dumps({"error": {"message": note.strip(" ()")}}).encode()
    return (text + note).encode()


def redirected(url: Any, response: Any, *, follows: bool) -> str | None:
    """A note where a model call is sent on to another place, or None where its client may follow.

    The same host may move a call to another path or from http to https, as it is (307, 308). Anything else
    would hand the prompt, and perhaps the key, to somebody nobody chose.
    """
    location = response.headers.get("location")
    if location is None:
        return None
    try:
        to = url.join(location)
        upgraded = (url.scheme, to.scheme) == ("http", "https") and url.port is None and to.port is None
        same = (
            to != url and to.host == url.host and (upgraded or (to.scheme, to.port) == (url.scheme, url.port))
        )
        place = f"{to.scheme}://{to.host}" + (f":{to.port}" if to.port else "")
    except Exception:  # a hostile address fails in many ways, and all of them mean no
        same, place = False, "an address that cannot be read"
    if same and follows and response.status_code in (307, 308):
        return None
    return f" (a model call is not redirected to {place[:200]}; set that as the base address if it is right)"
