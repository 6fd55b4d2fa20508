"""YAML as people mean it: one document of plain values, no tags or duplicate keys, each with its line.

Unquoted `yes`, `no`, `on`, `off` and dates are text, as in YAML 1.2: a label `no` never becomes false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidFile
from steelyard.prompts.template import Where

__all__ = ["MAX_BYTES", "Document", "dump", "dump_ordered", "read_yaml"]

MAX_BYTES = 1_000_000
_MAX_NODES = 50_000
_MAX_DEPTH = 60

_RESOLVERS = (
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    ),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's plain scalars; only its nodes are used, no constructor."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper that quotes whatever either YAML would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # YAML's readers turn these into plain line ends unless they are written as escapes.
    odd = any(c in text for c in "\r\x85\u2028\u2029\ufeff")
    style = '"' if odd else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_str)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file that was read.

    Attributes:
        path: The file.
        value: Its value, plain JSON types.
        lines: 1-based line of each value, by the keys that lead to it.
        blocks: The values written as block text (`|`, `>`): their text begins a line below.
    """

    path: Path
    value: JSON
    lines: dict[Where, int]
    blocks: frozenset[Where]

    def line(self, where: Where, text: str | None = None, offset: int = 0) -> int | None:
        """The line of a value, or of the nearest one around it; within block text, of a character."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.lines:
                line = self.lines[where[:end]]
                if end == len(where) and where in self.blocks and text is not None:
                    line += 1 + text.count("\n", 0, offset)
                return line
        return None

    def fault(self, what: str, *, do: str, where: Where = (), line: int | None = None) -> InvalidFile:
        """The error for something in this file."""
        return InvalidFile(self.path, what, do=do, line=line or self.line(where))


def read_yaml(path: Path, data: bytes | None = None, *, scale: int = 1) -> Document:
    """The one document of a file.

    Args:
        path: The file.
        data: Its bytes, where they were read already.
        scale: How many times larger than a prompt it may be.

    Raises:
        InvalidFile: it cannot be read, is empty or too large, is not UTF-8, is no YAML, has a duplicate key,
            a tag, too many or too deeply nested values.
    """
    if data is None:
        try:
            with path.open("rb") as file:
                data = file.read(scale * MAX_BYTES + 1)
        except OSError as error:
            raise InvalidFile(
                path, f"cannot be read: {error.strerror}", do="Check the path and its rights."
            ) from None
    text = _text(path, data, scale * MAX_BYTES)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except RecursionError:
        raise InvalidFile(path, "nested too deeply", do="Flatten it.", line=1) from None
    except yaml.YAMLError as error:
        raise _syntax(path, text, error) from None
    except (ValueError, IndexError, OverflowError) as error:  # PyYAML's scanner on odd escapes
        raise InvalidFile(path, f"no YAML: {error}", do="Mend the file.", line=1) from None
    if node is None:
        raise InvalidFile(path, "the file is empty", do="Write it, or delete the file.", line=1)
    builder = _Builder(path, scale * _MAX_NODES)
    value = builder.build(node, (), 0)
    return Document(path, value, builder.lines, frozenset(builder.blocks))


def dump(value: JSON) -> str:
    """The value as YAML that `read_yaml` reads back: sorted keys, text of several lines as blocks."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=100_000, indent=2)


def dump_ordered(value: JSON) -> str:
    """The value as `dump` writes it, keys in their own order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000, indent=2)


def _text(path: Path, data: bytes, most: int) -> str:
    if len(data) > most:
        long = max(enumerate(data.split(b"\n"), 1), key=lambda pair: len(pair[1]))
        raise InvalidFile(
            path,
            f"the file is over {most / 1e6:g} MB (this line alone has {len(long[1]):,} bytes or more)",
            do="A prompt is text that people review: take the data out of it and hand it in as a variable.",
            line=long[0],
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidFile(path, "the file is in UTF-16", do="Save it as UTF-8.", line=1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFile(
            path, f"byte 0x{data[error.start]:02x} is not UTF-8", do="Save the file as UTF-8.", line=line
        ) from None
    if not text.strip():
        raise InvalidFile(path, "the file is empty", do="Write it, or delete the file.", line=1)
    return text


def _syntax(path: Path, text: str, error: yaml.YAMLError) -> InvalidFile:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        return InvalidFile(
            path, f"the character U+{code:04X} is not allowed in YAML", do="Take it out.", line=line
        )
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark is not None else None
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    rows = text.split("\n")
    row = rows[mark.line] if mark is not None and mark.line < len(rows) else ""
    indent = row[: len(row) - len(row.lstrip())]
    if "\\t" in problem or "\t" in indent:
        return InvalidFile(path, "a tab stands where YAML wants spaces", do="Indent with spaces.", line=line)
    if "expected a single document" in str(error):
        return InvalidFile(
            path, "a second document begins ('---')", do="One file holds one document.", line=line
        )
    if "undefined alias" in problem or "duplicate anchor" in problem:
        return InvalidFile(
            path, problem, do="Write the value out; quote a text that begins with '*' or '&'.", line=line
        )
    hint = "Mend the line; quote a text that holds ': ', '#', '{', '[' or begins with a sign."
    return InvalidFile(path, f"no YAML: {problem}", do=hint, line=line)


class _Builder:
    """Plain values from YAML nodes, with their lines. Aliases are written out, up to a cap."""

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most, self.count = path, most, 0
        self.lines: dict[Where, int] = {}
        self.blocks: set[Where] = set()

    def build(self, node: yaml.Node, where: Where, depth: int) -> JSON:
        line = node.start_mark.line + 1
        self.lines.setdefault(where, line)
        self.count += 1
        if self.count > self.most or depth > _MAX_DEPTH:
            what = f"more than {self.most:,} values" if depth <= _MAX_DEPTH else "values nested too deeply"
            raise InvalidFile(self.path, f"{what}, aliases written out", do="Make it smaller.", line=line)
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                self.blocks.add(where)
            return self._scalar(node, tag, line)
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            return [self.build(n, (*where, i), depth + 1) for i, n in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and tag == "map":
            return self._mapping(node, where, depth)
        raise self._tag(node, line)

    def _mapping(self, node: yaml.MappingNode, where: Where, depth: int) -> dict[str, JSON]:
        out: dict[str, JSON] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidFile(
                    self.path,
                    "a key is a list or an object",
                    do="Quote a text that holds '{{' or begins with '{' or '['.",
                    line=line,
                )
            tag = key_node.tag.removeprefix("tag:yaml.org,2002:")
            key = self._scalar(key_node, tag, line)
            if not isinstance(key, str):
                raise InvalidFile(
                    self.path,
                    f"the key {key_node.value[:40]!r} is no text",
                    do="Put it in quotes.",
                    line=line,
                )
            if key in out:
                first = self.lines[(*where, key)]
                raise InvalidFile(
                    self.path,
                    f"the key {key[:80]!r} stands twice (first in line {first})",
                    do="Keep one of them.",
                    line=line,
                )
            self.lines[(*where, key)] = line
            out[key] = self.build(value_node, (*where, key), depth + 1)
        return out

    def _scalar(self, node: yaml.ScalarNode, tag: str, line: int) -> JSON:
        text: str = node.value
        try:
            if tag == "str":
                text.encode("utf-8")  # an escape such as "\ud800" makes half a character
                return text
            if tag == "null" and text in ("", "~", "null", "Null", "NULL"):
                return None
            if tag == "bool" and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if tag == "int" and len(text) <= 20:
                return int(text)
            if tag == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except UnicodeEncodeError:
            raise InvalidFile(
                self.path,
                "a text holds half a character (a lone surrogate)",
                do="Take the escape out.",
                line=line,
            ) from None
        except ValueError:
            pass
        if tag in ("null", "bool", "int", "float"):
            raise InvalidFile(
                self.path, f"{text[:40]!r} is no usable {tag}", do="Mend it, or put it in quotes.", line=line
            )
        raise self._tag(node, line)

    def _tag(self, node: yaml.Node, line: int) -> InvalidFile:
        shown = node.tag.replace("tag:yaml.org,2002:", "!!")[:60]
        return InvalidFile(
            self.path,
            f"the YAML tag {shown!r} is not allowed",
            do="Take it out: only plain values count. Quote a text that begins with '!'.",
            line=line,
        )
