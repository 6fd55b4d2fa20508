"""Template languages that only put names in: each read into segments, and written from them.

| language | a variable | a literal brace |
|---|---|---|
| f-string (`str.format`, LangChain's default) | `{name}` | `{{` `}}` |
| mustache | `{{name}}` escaped as HTML, `{{{name}}}` not | `{` |
| GitHub | `{{name}}` without blanks | anything else |
| MLflow, promptfoo | `{{ name }}` | anything else |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import Formatter

from steelyard.core.errors import InvalidValue
from steelyard.prompts.template import VARIABLE, Segment

__all__ = [
    "read_double",
    "read_fstring",
    "read_mustache",
    "write_default",
    "write_double",
    "write_fstring",
    "write_jinja",
    "write_mustache",
]

_DOUBLE = re.compile(r"\{\{(\s*)([\w.\-]+)(\s*)\}\}")
_MUSTACHE = re.compile(r"\{\{\{([^{}]*)\}\}\}|\{\{(.*?)\}\}", re.DOTALL)
_TAGS = {"#": "a section", "^": "an inverted section", "/": "a section's end", ">": "a partial"} | {
    "=": "a change of delimiters",
    "!": "a comment",
}


def _literal(text: str) -> list[Segment]:
    return [Segment(text, variable=False)] if text else []


def _named(name: str, where: str) -> Segment:
    """The segment of a variable; only plain names, so no attribute, index or position can be reached."""
    if not VARIABLE.fullmatch(name):
        raise InvalidValue(
            f"{where} uses {name[:40]!r}, which is no plain name",
            do="No attributes, indices or blanks: letters, digits and '_', beginning with a letter.",
        )
    return Segment(name, variable=True)


def read_fstring(text: str, where: str) -> list[Segment]:
    """The segments of an f-string text as `str.format` reads it; nothing of it is evaluated.

    Raises:
        InvalidValue: a brace stands alone, or a field is anything but a plain name: an attribute, an index,
            a position, a conversion (`!r`) or a format (`:>10`, also a nested one). The field's format is
            not repeated in the sentence.
    """
    segments: list[Segment] = []
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidValue(
            f"{where} is no f-string text ({error})", do="Write {{ and }} for braces as text."
        ) from None
    for literal, field, spec, conversion in parsed:
        segments += _literal(literal)
        if field is None:
            continue
        if spec or conversion:
            kind = "format" if spec else "conversion"
            raise InvalidValue(
                f"{where} uses the field {field[:40]!r} with a {kind}",
                do="Format the value where you hand it in, and write {name} only.",
            )
        segments.append(_named(field, where))
    return segments


def read_mustache(text: str, where: str) -> tuple[list[Segment], set[str]]:
    """The segments of a mustache text, and the names that mustache would escape as HTML.

    Raises:
        InvalidValue: a tag is not closed, or anything but a variable: a section, a partial, a comment.
    """
    segments: list[Segment] = []
    escaped: set[str] = set()
    at = 0
    while (start := text.find("{{", at)) >= 0:
        tag = _MUSTACHE.match(text, start)
        if tag is None:
            raise InvalidValue(f"{where} has '{{{{' without '}}}}'", do="Close the tag.")
        segments += _literal(text[at:start])
        raw, inner = tag[1], (tag[2] or "").strip()
        if raw is None and inner[:1] in _TAGS:
            raise InvalidValue(
                f"{where} uses {_TAGS[inner[0]]} of mustache",
                do="Write it with 'syntax: jinja', or put in the finished text as a variable.",
            )
        name = raw.strip() if raw is not None else inner.removeprefix("&").strip()
        segments.append(_named(name, where))
        if raw is None and not inner.startswith("&"):
            escaped.add(name)
        at = tag.end()
    return segments + _literal(text[at:]), escaped


def read_double(text: str, where: str, *, blanks: bool) -> list[Segment]:
    """The segments of a text whose variables are `{{name}}`; all other braces are text.

    Args:
        text: The text.
        where: What it is, for the error.
        blanks: Whether blanks inside the braces are ignored; if not, a tag with blanks is refused, because
            the other side leaves it in as text while its writer meant a variable.

    Raises:
        InvalidValue: a tag names anything but a plain name, or has blanks.
    """
    segments: list[Segment] = []
    at = 0
    for tag in _DOUBLE.finditer(text):
        segments += _literal(text[at : tag.start()])
        if not blanks and (tag[1] or tag[3]):
            raise InvalidValue(
                f"{where} holds {tag[0][:40]!r}, which stays in as text there because of the blanks",
                do=f"Write {{{{{tag[2][:40]}}}}}.",
            )
        segments.append(_named(tag[2], where))
        at = tag.end()
    return segments + _literal(text[at:])


def write_default(segments: Iterable[Segment]) -> str:
    """The text in Steelyard's default syntax."""
    return _write(segments, ("{{",))


def write_jinja(segments: Iterable[Segment]) -> str:
    """The text in Steelyard's Jinja syntax."""
    return _write(segments, ("{{", "{%", "{#"))


def _write(segments: Iterable[Segment], openings: Sequence[str]) -> str:
    out = ""
    opening = re.compile("|".join(map(re.escape, openings)))
    for segment in _merged(segments):
        if segment.variable:
            if out.endswith("{"):  # a lone brace would join those of the variable
                out = out[:-1] + "{{ '{' }}"
            out += "{{ " + segment.text + " }}"
        else:
            out += opening.sub(lambda m: "{{ '" + m[0] + "' }}", segment.text)
    return out


def write_fstring(segments: Iterable[Segment]) -> str:
    """The text as `str.format` takes it."""
    return "".join(
        "{" + s.text + "}" if s.variable else s.text.replace("{", "{{").replace("}", "}}") for s in segments
    )


def write_mustache(segments: Iterable[Segment], where: str) -> str:
    """The text in mustache, nothing escaped as HTML.

    Raises:
        InvalidValue: a literal holds `{{`, or ends in a brace before a variable.
    """
    out = ""
    for segment in _merged(segments):
        if segment.variable:
            if out.endswith("{"):
                raise _literal_braces(where, "mustache")
            out += "{{{" + segment.text + "}}}"
        elif "{{" in segment.text:
            raise _literal_braces(where, "mustache")
        else:
            out += segment.text
    return out


def write_double(segments: Iterable[Segment], where: str, language: str) -> str:
    """The text with `{{name}}` for variables, as GitHub and MLflow take it.

    Raises:
        InvalidValue: a literal reads like a variable there.
    """
    segments = _merged(segments)
    out = "".join("{{" + s.text + "}}" if s.variable else s.text for s in segments)
    try:
        again = read_double(out, where, blanks=True)
    except InvalidValue:
        again = []
    if _merged(again) != segments:
        raise _literal_braces(where, language)
    return out


def _literal_braces(where: str, language: str) -> InvalidValue:
    return InvalidValue(
        f"{where} holds braces as text that {language} would read as a variable; it has no escape for them",
        do="Take the braces out of the text, or put them in as the value of a variable.",
    )


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    out: list[Segment] = []
    for segment in segments:
        if not segment.variable and out and not out[-1].variable:
            out[-1] = Segment(out[-1].text + segment.text, variable=False)
        elif segment.text:
            out.append(segment)
    return out
