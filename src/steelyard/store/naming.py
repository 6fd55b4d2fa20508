"""Our names as MLflow's, reversibly, and texts of any size as tags.

MLflow wants names of letters, digits, `_`, `.` and `-`; ours also have `/`. So `/` is written `..`, and a dot
that would then be misread (before `.`, `_`, `/` or the end) is written `._`. Every other name stays as it is:
`llama-3.1` is `llama-3.1`, `team/intent` is `team..intent`.

`._` before anything but `.` and `_` never comes out of a name, which leaves it for our own suffixes:
`intent._model` holds the model `intent`, `intent._ledger` the ledger of the prompt `intent`. Models and
adapters need a suffix because in MLflow they share one name space with prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from steelyard.core.canonical import digest_bytes
from steelyard.core.errors import Corrupt
from steelyard.store.protocol import Kind

__all__ = ["CHUNK", "base_name", "decode", "encode", "join_text", "key", "ledger_name", "split_text"]

CHUNK = 16_000
"""Characters of a text in one tag: any database that MLflow takes holds it, even MySQL's 64 KiB."""

_LONGEST = 200  # MLflow's column holds 256; our suffixes need the rest


def encode(name: str) -> str:
    """MLflow's form of a name; `decode` gives the name back if it is at most 200 characters long.

    A longer one ends in `._h` and a digest; the whole name then stands in a tag only.
    """
    dotted = re.sub(r"\.(?=[._/]|$)", "._", name).replace("/", "..")
    if len(dotted) <= _LONGEST:
        return dotted
    return dotted[:150].rstrip(".") + "._h" + digest_bytes(name.encode())[7:39]


def decode(encoded: str) -> str:
    """The name that `encode` was given."""
    return re.sub(r"\.[._]", lambda m: "/" if m[0] == ".." else ".", encoded)


def base_name(kind: Kind, name: str) -> str:
    """The MLflow name of the versions of (kind, name); a prompt's is the plain one, for people to see."""
    return encode(name) + ("" if kind == "prompt" else f"._{kind}")


def ledger_name(kind: Kind, name: str) -> str:
    """The MLflow name of the ledger of (kind, name)."""
    return base_name(kind, name) + "._ledger"


def key(text: str) -> str:
    """A key that MLflow takes for a param, metric or tag: other characters become `_`, at most 250."""
    clean = re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)
    parts = [p for p in clean.split("/") if p not in ("", ".", "..")]
    return "/".join(parts)[:250] or "_"


def split_text(prefix: str, text: str, *, size: int = CHUNK) -> dict[str, str]:
    """The text as tags `<prefix>.0`, `<prefix>.1` … with `<prefix>.sum`, its count of parts and digest."""
    parts = [text[i : i + size] for i in range(0, len(text), size)] or [""]
    tags = {f"{prefix}.{i}": part for i, part in enumerate(parts)}
    tags[f"{prefix}.sum"] = f"{len(parts)} {digest_bytes(text.encode())}"
    return tags


def join_text(prefix: str, tags: Mapping[str, str], *, where: str) -> str:
    """The text that `split_text` was given.

    Raises:
        Corrupt: a part is missing or was changed.
    """
    count, _, digest = tags.get(f"{prefix}.sum", "0").partition(" ")
    parts = [tags.get(f"{prefix}.{i}") for i in range(int(count) if count.isdigit() else 0)]
    text = "".join(p for p in parts if p is not None)
    if not parts or None in parts or digest_bytes(text.encode()) != digest:
        raise Corrupt(
            where,
            f"its tags {prefix}.* are not what was written",
            do="Someone edited them: restore the store from a backup, or register the content again.",
        )
    return text
