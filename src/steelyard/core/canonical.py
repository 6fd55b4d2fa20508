"""Canonical JSON (RFC 8785) and content digests.

Identity is content: prompts, datasets, evaluators, policies and runs are known by the SHA-256 of
their canonical form, written `sha256:<64 hex>`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as _quote  # pyright: ignore[reportPrivateImportUsage]
from typing import Any, TypeAlias, cast

from steelyard.core.errors import InvalidValue

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, and lists and string-keyed mappings of them."""

__all__ = [
    "JSON",
    "MAX_DEPTH",
    "canonical",
    "digest",
    "digest_bytes",
    "digest_of_list",
    "is_digest",
    "plain",
    "short",
]

MAX_DEPTH = 200
"""Nesting beyond this is refused: no honest example, prompt or output is that deep."""

_MAX_INT = 2**53 - 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def canonical(value: JSON) -> bytes:
    """The RFC 8785 bytes of a JSON value.

    Args:
        value: None, bool, int, float, str, and lists, tuples and string-keyed mappings of them.

    Raises:
        InvalidValue: NaN or an infinity, an integer beyond ±(2**53 − 1), a lone surrogate, a key that is
            not a string, a cycle or nesting over `MAX_DEPTH`, or a type that JSON does not have.
    """
    try:
        return _text(value, 0).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"text with a lone surrogate (U+{ord(error.object[error.start]):04X}) has no UTF-8 form",
            do="Decode the source with the right encoding, or with errors='replace'.",
        ) from None


def digest(value: JSON) -> str:
    """`sha256:<hex>` of the canonical form of a JSON value."""
    return digest_bytes(canonical(value))


def digest_of_list(values: Iterable[JSON]) -> str:
    """`digest` of the list of these values, which is never held as a whole."""
    hashed, comma = hashlib.sha256(b"["), b""
    for value in values:
        hashed.update(comma + canonical(value))
        comma = b","
    hashed.update(b"]")
    return "sha256:" + hashed.hexdigest()


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of raw bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether the text is a whole digest, `sha256:` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def short(value: str | None) -> str:
    """The first 12 hex digits of a digest, for people to read; `-` for None."""
    return "-" if value is None else value.removeprefix("sha256:")[:12]


def plain(value: object) -> JSON:
    """The value as plain JSON types, so that what was handed in can be stored and hashed.

    Takes mappings, sequences, sets (sorted), dataclasses, pydantic models, enums, paths and NumPy scalars.

    Raises:
        InvalidValue: for anything else, and for what `canonical` refuses.
    """
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> JSON:
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) in (int, float):
        return value
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        return {_key(k): _plain(v, depth + 1) for k, v in items.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in cast("list[object]", value)]
    if isinstance(value, (set, frozenset)):
        members = [_plain(v, depth + 1) for v in cast("set[object]", value)]
        return sorted(members, key=canonical)
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"), depth + 1)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {f: _plain(getattr(value, f), depth + 1) for f in value.__dataclass_fields__}
    if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return _plain(value.item(), depth + 1)
    if isinstance(value, int):  # bool is above; IntEnum and friends
        return int(value)
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise InvalidValue(
        f"a value of type {type(value).__qualname__} has no JSON form",
        do="Return plain values: None, bool, int, float, str, list, dict.",
    )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidValue(
            f"a JSON object cannot have a key of type {type(key).__name__}",  # its text may be a secret
            do="Use strings as keys.",
        )
    return key


def _too_deep() -> InvalidValue:
    return InvalidValue(
        f"a value nested more than {MAX_DEPTH} levels deep (or holding itself) cannot be stored",
        do="Flatten it, or store it as text.",
    )


def _text(value: Any, depth: int) -> str:
    """The canonical text of a value. The commonest exact types first: this is the hot path of every row."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is dict or (kind not in _ATOMS and isinstance(value, Mapping)):
        if depth >= MAX_DEPTH:
            raise _too_deep()
        return _object(cast("Mapping[object, object]", value), depth + 1)
    if kind is float:
        return _number(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return _integer(value)
    if isinstance(value, (list, tuple)):
        if depth >= MAX_DEPTH:
            raise _too_deep()
        depth += 1
        return "[" + ",".join([_text(v, depth) for v in cast("list[object]", value)]) + "]"
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _number(value)
    if depth >= MAX_DEPTH:
        raise _too_deep()
    raise InvalidValue(
        f"a value of type {kind.__qualname__} has no JSON form",
        do="Use None, bool, int, float, str, list or dict.",
    )


_ATOMS = frozenset({str, float, bool, int, list, tuple, type(None)})


_SHAPES: dict[tuple[object, ...], tuple[tuple[str, str], ...]] = {}
"""Keys in their canonical order and quoted, by the keys as they came: the rows of a run have few shapes."""


def _object(items: Mapping[object, object], depth: int) -> str:
    keys = tuple(items)
    shape = _SHAPES.get(keys)
    if shape is None:
        texts = [_key(k) for k in keys]
        # RFC 8785 sorts by UTF-16 code units, which for ASCII is the order of Python's own strings.
        texts.sort(key=None if all(map(str.isascii, texts)) else _utf16)
        shape = tuple((k, _quote(k) + ":") for k in texts)
        if len(keys) <= 32 and sum(map(len, texts)) <= 1_000:
            if len(_SHAPES) >= 1_000:
                _SHAPES.clear()
            _SHAPES[keys] = shape
    return "{" + ",".join([quoted + _text(items[key], depth) for key, quoted in shape]) + "}"


def _integer(value: int) -> str:
    if not -_MAX_INT <= value <= _MAX_INT:
        raise InvalidValue(
            f"the integer {str(value)[:40]} is beyond ±(2**53 - 1), which JSON numbers hold exactly",
            do="Store it as text.",
        )
    return int.__repr__(value)


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _number(x: float) -> str:
    """ECMAScript's Number::toString (RFC 8785, section 3.2.2.3), from Python's shortest digits."""
    if not math.isfinite(x):
        raise InvalidValue(f"the number {x} has no JSON form", do="Leave it out, or store None.")
    if -_MAX_INT <= x <= _MAX_INT and x == int(x):
        return int.__repr__(int(x))
    sign, text = ("-", repr(-x)) if x < 0 else ("", repr(x))
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)  # position of the point, counted from `whole`'s first digit
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    k = len(digits)
    if k <= point <= 21:
        return sign + digits + "0" * (point - k)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    e = point - 1
    tail = ("." + digits[1:]) if k > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if e > 0 else '-'}{abs(e)}"
