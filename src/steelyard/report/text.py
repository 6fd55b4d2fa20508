"""Text from data, made safe and honest to look at.

Outputs, inputs, names and error messages come from models, datasets and strangers. What is invisible or acts
on a terminal, a CI log or a Markdown renderer is turned into something that can only be read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON

__all__ = [
    "as_fields",
    "as_text",
    "cut",
    "display_width",
    "fit",
    "markdown_block",
    "markdown_code",
    "markdown_text",
    "no_commands",
    "one_line",
    "readable",
    "visible",
]

# What hides or reorders text: bidirectional controls, zero-width characters, line separators, tags,
# noncharacters. U+200C and U+200D stay: Persian and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with everything invisible or dangerous shown as a symbol; newlines and tabs stay.

    Control characters become their pictures (`␛`, `␀`), the rest `⟨U+202E⟩`.
    """
    return _HIDDEN.sub(_symbol, text.replace("\r\n", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def one_line(text: str) -> str:
    """The visible text on one line: runs of blanks become one space, line breaks `⏎`."""
    return re.sub(r"[ \t]+", " ", visible(text).strip().replace("\n", " ⏎ "))


def as_text(value: JSON) -> str:
    """A JSON value for people: text as it is, anything else as indented JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    try:
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (RecursionError, ValueError):
        return "(nested too deep to show)"


def readable(value: JSON) -> str:
    """A JSON value for people: a flat object as lines of `name: value`, one field alone without its name."""
    fields = as_fields(value)
    if isinstance(value, Mapping) and len(fields) == 1:
        return fields[0][1]
    if isinstance(value, Mapping) and all("\n" not in text for _, text in fields):
        return "\n".join(f"{name}: {text}" for name, text in fields)
    return as_text(value)


def as_fields(value: JSON) -> list[tuple[str, str]]:
    """Name and text of each field of a JSON object; any other value is one field without a name."""
    if isinstance(value, Mapping) and value:
        items = cast("Mapping[Any, Any]", value).items()
        return [(str(k), as_text(v)) for k, v in items]
    return [("", as_text(value))]


def cut(text: str, limit: int) -> tuple[str, str]:
    """The first `limit` characters and a note on the rest; the note is empty where nothing is cut."""
    if len(text) <= limit:
        return text, ""
    return text[:limit], f"… {len(text) - limit:,} more characters not shown"


def display_width(text: str) -> int:
    """Columns of a terminal the text takes: East Asian wide characters two, combining ones none."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int) -> str:
    """The text on one line in at most `width` columns, ending in `…` where it was cut."""
    line = one_line(text[: 4 * max(width, 1) + 64])
    if len(text) <= 4 * max(width, 1) + 64 and display_width(line) <= width:
        return line
    kept, used = "", 0
    for character in line:
        used += _columns(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…" if width > 0 else ""


def no_commands(text: str) -> str:
    """Text for a CI log in which no line is a command: `::error`, `##[error]`, `##vso[`, `##teamcity[`."""
    text = re.sub(r"(?m)^(\s*):(?=:)", r"\1: ", text)
    return re.sub(r"##(?=\w*\[)", "# #", text)


_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#+!|~$^=&@:/]")
_ALL_ASCII = re.compile(r"[!-/:-@\[-`{-~]")


def markdown_text(text: str) -> str:
    """The text on one line of Markdown, as prose that is only ever read.

    Characters that mean something are written as entities, so they open no table cell, tag, link or
    image. Mentions, issue numbers and bare addresses are found by renderers after that, so a word joiner
    (U+2060) breaks them.
    """
    return _MARKDOWN.sub(_entity, _unlinked(one_line(text)))


def markdown_code(text: str) -> str:
    """The text on one line of Markdown as `<code>`, every ASCII punctuation mark as an entity."""
    return f"<code>{_ALL_ASCII.sub(_entity, _unlinked(one_line(text)))}</code>"


def markdown_block(text: str) -> str:
    """The text as a `<pre>` block of Markdown: nothing inside is markup, blank lines included."""
    return f"<pre>{_ALL_ASCII.sub(_entity, _unlinked(visible(text)))}</pre>"


def _unlinked(text: str) -> str:
    text = re.sub(r"@(?=\w)", "@\u2060", text)
    text = re.sub(r"#(?=\d)", "#\u2060", text)
    return re.sub(r":(?=//)|(?<=www)(?=\.)", lambda m: m.group() + "\u2060", text, flags=re.IGNORECASE)


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match.group())};"
