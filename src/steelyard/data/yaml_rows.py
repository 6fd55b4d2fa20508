"""YAML datasets: one list of examples. No tags, no duplicate keys; aliases are written out, capped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from steelyard.core.canonical import JSON
from steelyard.core.dataset import Example
from steelyard.core.errors import InvalidFile
from steelyard.data.lines import read_lines
from steelyard.data.rows import Rows

__all__ = ["read_yaml"]

_MAX_BYTES = 20_000_000
_MAX_VALUES = 2_000_000
_MAX_DEPTH = 60
_TAG = "tag:yaml.org,2002:"
_DO = "Datasets are plain text, numbers, lists and objects: take it out, or put it in quotes."

_KEEP = "Write one list of examples."

# YAML 1.2's plain scalars: an unquoted `no`, `on` or a date is text.
_PLAIN: tuple[tuple[str, str, list[str]], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+0123456789.")),
)

_yaml: Any = yaml
_Composer: Any = _yaml.composer.Composer
_Resolver: Any = _yaml.resolver.BaseResolver


class _Parser(_yaml.reader.Reader, _yaml.scanner.Scanner, _yaml.parser.Parser):
    """Events from Python's parser, for a PyYAML without libyaml."""

    def __init__(self, text: str) -> None:
        _yaml.reader.Reader.__init__(self, text)
        _yaml.scanner.Scanner.__init__(self)
        _yaml.parser.Parser.__init__(self)


_Events: Any = _yaml.cyaml.CParser if hasattr(yaml, "CSafeLoader") else _Parser


class _Loader(_Composer, _Events, _Resolver):
    """Events from C where it can be had, nodes in Python, no constructor at all.

    PyYAML's composer in C recurses on the C stack: 60 kB of open brackets would end the process.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, text: str) -> None:
        _Events.__init__(self, text)
        _Composer.__init__(self)
        _Resolver.__init__(self)


for _word, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _word, re.compile(f"^(?:{_pattern})$"), _first)


def read_yaml(path: Path) -> Iterator[Example]:
    """The examples of a file: a list, or an object with the list under `examples`.

    Raises:
        InvalidFile: with the line of the first mistake.
    """
    node = _document(path)
    if isinstance(node, yaml.MappingNode):
        found = {k.value: v for k, v in node.value if isinstance(k, yaml.ScalarNode)}
        if len(found) < len(node.value):
            raise InvalidFile(
                path, "a key is no text, or 'examples' stands twice", do=_KEEP, line=_line(node)
            )
        odd = [k for k in found if k not in ("examples", "description")]
        if odd or "examples" not in found:
            what = f"unknown key {odd[0]!r}" if odd else "no 'examples'"
            raise InvalidFile(path, what, do="Write a list of examples.", line=_line(node))
        node = found["examples"]
    if not isinstance(node, yaml.SequenceNode):
        raise InvalidFile(path, "not a list of examples", do="Write '- inputs: ...' rows.", line=_line(node))
    rows = Rows(path)
    build = _Builder(path)
    for member in node.value:
        row = build.value(member, 0)
        rows.check(row, _line(member))
        yield rows.example(row, _line(member))


def _document(path: Path) -> Any:
    parts: list[str] = []
    size = 0
    for number, text in read_lines(path):
        size += len(text)
        if size > _MAX_BYTES:
            do = "Write large datasets as JSON lines (.jsonl)."
            raise InvalidFile(path, f"over {_MAX_BYTES / 1e6:g} MB of YAML", do=do, line=number)
        indent = text[: len(text) - len(text.lstrip())]
        if "\t" in indent and text.strip():
            do = "Indent with spaces."
            raise InvalidFile(path, "a tab stands where YAML wants spaces", do=do, line=number)
        parts.append(text)
    loader: Any = None
    try:
        loader = _Loader("".join(parts))
        node = loader.get_single_node()
    except RecursionError:
        raise InvalidFile(path, "nested too deeply", do="Flatten it.", line=1) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        do = "Mend the line; quote a text that holds ': ', '#', '{', '[' or begins with a sign."
        line = mark.line + 1 if mark is not None else None
        raise InvalidFile(path, f"no YAML: {reason}", do=do, line=line) from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise InvalidFile(path, "the file holds no example", do="Add at least one.", line=1)
    return node


class _Builder:
    """Plain values from nodes."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def value(self, node: Any, depth: int) -> JSON:
        self.count += 1
        if self.count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise self._fault(node, "too many or too deep values, aliases written out", "Make it smaller.")
        kind = str(node.tag).removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(n, depth + 1) for n in node.value]
        if isinstance(node, yaml.MappingNode) and kind == "map":
            out: dict[str, JSON] = {}
            for key_node, value_node in node.value:
                key = (
                    self._scalar(key_node, str(key_node.tag).removeprefix(_TAG))
                    if isinstance(key_node, yaml.ScalarNode)
                    else None
                )
                if not isinstance(key, str):
                    raise self._fault(key_node, "a key is no text", "Put it in quotes.")
                if key in out:
                    raise self._fault(key_node, f"the key {key[:80]!r} stands twice", "Keep one of them.")
                out[key] = self.value(value_node, depth + 1)
            return out
        raise self._fault(node, f"the YAML tag {str(node.tag)[:60]!r} is not allowed", _DO)

    def _scalar(self, node: Any, kind: str) -> JSON:
        text: str = node.value
        if kind == "str":
            return text
        if kind == "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if kind == "int" and len(text) <= 20:
                return int(text)
            if kind == "float":
                return float(text)
        except ValueError:
            pass
        if kind in ("int", "float", "bool", "null"):
            raise self._fault(node, f"{text[:40]!r} is no usable {kind}", "Mend it, or put it in quotes.")
        raise self._fault(node, f"the YAML tag {str(node.tag)[:60]!r} is not allowed", _DO)

    def _fault(self, node: Any, what: str, do: str) -> InvalidFile:
        return InvalidFile(self.path, what, do=do, line=_line(node))


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
