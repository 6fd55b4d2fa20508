"""What changed between two texts, word by word and line by line."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

__all__ = ["LineChange", "Span", "line_diff", "word_diff"]

Span = tuple[str, bool]
"""A piece of text and whether it is only on this side."""

# Chinese, Japanese and Korean are written without blanks: each character is a word there.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+\s*|\s+|[^\w\s]\s*")
_MOST_WORDS = 1500
_SHORT = 12  # so few words that marking all of them is no noise


def word_diff(before: str, after: str) -> tuple[list[Span], list[Span]]:
    """The spans of both texts; a span is marked where the other text has something else.

    Two long texts with little in common come back unmarked: confetti tells nothing.
    """
    if before == after:
        return [(before, False)], [(after, False)]
    a, b = _WORD.findall(before), _WORD.findall(after)
    if max(len(a), len(b)) > _MOST_WORDS:
        return [(before, False)], [(after, False)]
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    blocks = matcher.get_opcodes()
    alike = sum(j - i for tag, i, j, _, _ in blocks if tag == "equal")
    if max(len(a), len(b)) > _SHORT and alike < 0.3 * min(len(a), len(b)):
        return [(before, False)], [(after, False)]
    left: list[Span] = []
    right: list[Span] = []
    for tag, i1, i2, j1, j2 in blocks:
        same = tag == "equal"
        # One lone word between two changes reads better as part of the change.
        inside = i1 > 0 and i2 < len(a) and i2 - i1 == 1 and len(a[i1].strip()) < 2
        marked = not same or inside
        _add(left, "".join(a[i1:i2]), marked)
        _add(right, "".join(b[j1:j2]), marked)
    return left, right


def _add(spans: list[Span], text: str, marked: bool) -> None:
    if not text:
        return
    if spans and spans[-1][1] == marked:
        spans[-1] = (spans[-1][0] + text, marked)
    else:
        spans.append((text, marked))


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """A line of a unified diff.

    Attributes:
        kind: `same`, `removed`, `added` or `skipped` (equal lines left out).
        spans: The line's text, changed words marked.
    """

    kind: str
    spans: tuple[Span, ...]


def line_diff(before: str, after: str, *, context: int = 3) -> list[LineChange]:
    """A unified diff with the changed words of paired lines marked; empty for equal texts."""
    a, b = before.splitlines(), after.splitlines()
    out: list[LineChange] = []
    groups = difflib.SequenceMatcher(None, a, b, autojunk=False).get_grouped_opcodes(context)
    end = 0
    for group in groups:
        if skipped := group[0][1] - end:
            out.append(_skip(skipped))
        end = group[-1][2]
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                out += [LineChange(kind="same", spans=((line, False),)) for line in a[i1:i2]]
                continue
            pairs = min(i2 - i1, j2 - j1)
            marked = [word_diff(a[i1 + k], b[j1 + k]) for k in range(pairs)]
            removed = [tuple(m[0]) for m in marked] + [((line, False),) for line in a[i1 + pairs : i2]]
            added = [tuple(m[1]) for m in marked] + [((line, False),) for line in b[j1 + pairs : j2]]
            out += [LineChange(kind="removed", spans=s) for s in removed]
            out += [LineChange(kind="added", spans=s) for s in added]
    if out and len(a) > end:
        out.append(_skip(len(a) - end))
    return out


def _skip(lines: int) -> LineChange:
    return LineChange(kind="skipped", spans=((f"{lines} equal line{'s' if lines > 1 else ''}", False),))
