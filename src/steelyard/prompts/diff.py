"""Word by word: what changed between two prompts."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from steelyard.prompts.prompt import Prompt

__all__ = ["Piece", "colour", "diff_prompts", "diff_words", "plain_text"]

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
Change = Literal["same", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text and what happened to it."""

    change: Change
    text: str


def diff_words(before: str, after: str) -> list[Piece]:
    """The pieces that lead from one text to another, words kept whole.

    Putting together all but the added pieces gives `before`, all but the removed ones `after`.
    """
    a: list[str] = _WORD.findall(before)
    b: list[str] = _WORD.findall(after)
    pieces: list[Piece] = []

    def put(change: Change, words: list[str]) -> None:
        if words:
            pieces.append(Piece(change, "".join(words)))

    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            put("same", a[i1:i2])
        else:
            put("removed", a[i1:i2])
            put("added", b[j1:j2])
    return pieces


def diff_prompts(before: Prompt, after: Prompt) -> list[Piece]:
    """The pieces between two prompts: messages, variables, parameters and all else that counts.

    Lines are matched first and words within the lines that changed, so long prompts stay fast.
    """
    a, b = before.to_text().splitlines(keepends=True), after.to_text().splitlines(keepends=True)
    pieces: list[Piece] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(a[i1:i2])))
        else:
            pieces += diff_words("".join(a[i1:i2]), "".join(b[j1:j2]))
    return pieces


def plain_text(pieces: list[Piece]) -> str:
    """The pieces as text, changes marked `[-removed-]` and `{+added+}`, as git's word diff does."""
    marks = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    return "".join(f"{marks[p.change][0]}{p.text}{marks[p.change][1]}" for p in pieces)


def colour(pieces: list[Piece]) -> str:
    """The pieces for a terminal: removed red and struck through, added green and underlined.

    Control characters of the prompts themselves are shown, not obeyed.
    """
    codes = {"same": ("", ""), "removed": ("\x1b[31;9m", "\x1b[0m"), "added": ("\x1b[32;4m", "\x1b[0m")}
    return "".join(f"{codes[p.change][0]}{visible(p.text)}{codes[p.change][1]}" for p in pieces)


def visible(text: str) -> str:
    r"""The text with control characters written as `\x1b`, so that a terminal only shows them."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: f"\\x{ord(m[0]):02x}", text)
